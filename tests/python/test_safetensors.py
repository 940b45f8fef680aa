"""Our safetensors reader and writer against the Python package: each reads the other's files, and no altered file that the
package refuses is accepted by ours."""

import os
import pathlib
import random
import subprocess

import pytest
import safetensors
import safetensors.torch
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
DRIVER = (
    pathlib.Path(os.environ.get("HEED_BUILD", ROOT / "build")) / "bin" / "heed_safetensors_driver"
)
DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def run_driver(paths):
    command = [str(DRIVER), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=120)
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths)
    return lines


def example_tensors():
    tensors = {}
    for dtype in DTYPES:
        values = torch.randint(0, 2, (3, 5)) if dtype == torch.bool else torch.randn(3, 5) * 50
        tensors[f"weight.{dtype}"] = values.to(dtype)
    tensors["scalar"] = torch.tensor(1.5)
    tensors["empty"] = torch.empty(0, 4)
    tensors["中文/../name\n"] = torch.tensor([float("nan"), float("inf"), -0.0])
    return tensors


def bits(tensor):
    return tensor.flatten().view(torch.uint8)


def test_files_pass_unchanged_from_python_through_ours_and_back(tmp_path):
    path = tmp_path / "file"
    tensors, metadata = example_tensors(), {"format": "pt", "ключ": "значение"}
    safetensors.torch.save_file(tensors, path, metadata)
    assert run_driver([path]) == ["ok"]

    with safetensors.safe_open(f"{path}.out", "pt") as opened:
        assert opened.metadata() == metadata
    back = safetensors.torch.load_file(f"{path}.out")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].shape == tensor.shape
        assert bits(back[name]).equal(bits(tensor))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_type_gives_the_same_bytes_as_python(tmp_path, dtype):
    path = tmp_path / "file"
    tensors = {name: torch.ones(n, 3).to(dtype) for n, name in enumerate(["b", "a", "c"], 1)}
    safetensors.torch.save_file(tensors, path, {"k": "v"})
    assert run_driver([path]) == ["ok"]
    assert pathlib.Path(f"{path}.out").read_bytes() == path.read_bytes()


def altered(rng, whole):
    changed = bytearray(whole)
    kind = rng.randrange(5)
    at = rng.randrange(min(len(changed), 400))
    if kind == 0:
        changed[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        changed[at] = rng.choice(b'0123456789{}[]",: \n\\-.eu\x00\xff')
    elif kind == 2:
        del changed[at : at + rng.randrange(1, 9)]
    elif kind == 3:
        changed[at:at] = changed[at : at + rng.randrange(1, 9)]
    else:
        del changed[rng.randrange(len(changed)) :]
    if (
        rng.random() < 0.5 and len(changed) > 8
    ):  # keep the header's size true, to reach the deeper rules
        size = int.from_bytes(whole[:8], "little") + len(changed) - len(whole)
        changed[:8] = max(size, 0).to_bytes(8, "little")
    return bytes(changed)


def python_accepts(data):
    try:
        safetensors.torch.load(data)
    except Exception:
        return False
    return True


def test_no_altered_file_that_python_refuses_is_accepted(tmp_path):
    rng = random.Random(0)
    tensors = {"a": torch.ones(2), "b": torch.ones(3, dtype=torch.uint8), "c": torch.ones(1, 2)}
    whole = safetensors.torch.save(tensors, {"k": "v"})
    files = [altered(rng, whole) for _ in range(3000)]
    paths = [tmp_path / str(i) for i in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)

    ours = [line == "ok" for line in run_driver(paths)]
    theirs = [python_accepts(data) for data in files]
    wrongly = [data for data, a, b in zip(files, ours, theirs, strict=True) if a and not b]
    assert wrongly == []
    assert 50 < sum(ours) < sum(theirs) + 1 < len(files)
