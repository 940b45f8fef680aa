"""The wheel, what it says where it can't work, and what type checkers see of it."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pages import ROOT, python_blocks

import heed
from heed import _build

PACKAGE = Path(heed.__file__).parent


def run(*command, cwd=ROOT, **environment):
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# The wheel.


@pytest.fixture(scope="module")
def wheel():
    """Built as users build it; ccache has the objects of the build that is tested here."""
    return ROOT / run("make", "--silent", "wheel").strip()


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel's package alone; torch is the virtual environment's."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


def test_the_wheel_is_for_every_python_and_this_platform(wheel):
    machine = os.uname().machine
    assert wheel.name == f"heed-{_build.version}-py3-none-linux_{machine}.whl"


def test_the_wheel_says_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode().split("\n\n")[0].splitlines()
    assert "Name: heed" in metadata
    assert f"Version: {_build.version}" in metadata
    assert f"Requires-Dist: torch=={_build.torch_version}" in metadata
    assert [line for line in metadata if line.startswith("Requires-Dist")][1:] == []
    assert {"License-Expression: Apache-2.0", "License-File: LICENSE"} <= set(metadata)


def test_the_wheel_holds_the_package_and_no_path_of_this_machine(installed):
    (information,) = installed.glob("heed-*.dist-info")
    assert (information / "licenses/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    files = {str(f.relative_to(installed / "heed")) for f in installed.rglob("heed/**/*.*")}
    sources = {str(f.relative_to(PACKAGE)) for f in PACKAGE.rglob("*.*")} | {"_build.pyi"}
    assert {f for f in files if "__pycache__" not in f} == {
        f for f in sources if "__pycache__" not in f
    }
    for file in installed.rglob("*"):
        if file.name == "direct_url.json":  # pip's note of where it took the wheel from
            continue
        if file.is_file() and file.suffix != ".pyc":
            for path in (ROOT, sys.prefix, sys.base_prefix):
                assert str(path).encode() not in file.read_bytes(), f"{path} in {file}"


def test_the_library_needs_torch_and_no_python(installed):
    dynamic = run("readelf", "--dynamic", "--wide", installed / "heed/libheed_ops.so")
    assert "libtorch_cpu.so" in dynamic
    assert "libpython" not in dynamic and "libtorch_python" not in dynamic
    assert "RUNPATH" in dynamic and "[$ORIGIN/../torch/lib]" in dynamic


FIRST_IMPORT = """
import sys, time
import torch
before, start = set(sys.modules), time.process_time()
import heed
seconds = time.process_time() - start
heed.attention(*(torch.ones(1, 1, 2, 4) for _ in range(3)))
packages = {name.split(".")[0] for name in set(sys.modules) - before}
print(heed.__file__, heed.__version__, seconds, *sorted(packages - sys.stdlib_module_names))
"""


def test_the_installed_package_imports_in_under_a_second(installed):
    printed = run(sys.executable, "-c", FIRST_IMPORT, cwd=installed, PYTHONPATH=str(installed))
    file, version, seconds, *packages = printed.split()
    assert Path(file).parent == installed / "heed"
    assert version == _build.version
    assert float(seconds) < 1
    assert packages == ["heed"]


def readme_snippet():
    snippets = [snippet for snippet in python_blocks(ROOT / "README.md") if snippet[1]]
    assert len(snippets) == 1
    return snippets[0]


def test_the_installed_package_prints_what_the_readme_shows(installed):
    code, shown = readme_snippet()
    assert run(sys.executable, "-c", code, cwd=installed, PYTHONPATH=str(installed)) == shown


@pytest.mark.slow
def test_a_new_environment_with_torch_alone_prints_what_the_readme_shows(wheel, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    # A snippet needs nothing that torch doesn't bring, and no compiler.
    code, shown = readme_snippet()
    environment = {"PYTHONPATH": "", "PATH": str(python.parent)}
    assert run(python, "-c", code, cwd=tmp_path, **environment) == shown


# Where it can't work.

ATTEMPTS = """
import json, sys
import torch

def attempt():
    for name in [name for name in sys.modules if name.split(".")[0] == "heed"]:
        del sys.modules[name]
    try:
        import heed
    except ImportError as error:
        return str(error)

version, messages = torch.__version__, {}
for torch.__version__ in ("2.12.1+cpu", "2.14.0", "3.13.0"):
    messages[torch.__version__] = attempt()
torch.__version__ = version
has_abi, torch.compiled_with_cxx11_abi = torch.compiled_with_cxx11_abi, lambda: False
messages["abi"] = attempt()
torch.compiled_with_cxx11_abi = has_abi
torch.__version__ = "2.13.1+cpu"
messages["patch"] = attempt()
print(json.dumps(messages))
"""


def test_another_torch_is_refused_in_one_line():
    messages = json.loads(run(sys.executable, "-c", ATTEMPTS))
    assert messages.pop("patch") is None
    assert "C++ ABI" in messages.pop("abi")
    for version, message in messages.items():
        assert message.startswith(f"heed: {_build.version} was built for PyTorch ")
        assert f"this is {version} (" in message and "\n" not in message
        assert message.endswith(f"; pip install torch=={_build.torch_version}")


def import_error(package, before=""):
    """What `import heed` says where the package is not as it should be."""
    code = f"{before}\ntry:\n    import heed\nexcept ImportError as error:\n    print(error)"
    return run(sys.executable, "-c", code, cwd=package.parent, PYTHONPATH=str(package.parent))


def test_without_torch_one_line_says_so():
    message = import_error(PACKAGE, before="import sys; sys.modules['torch'] = None")
    assert message == (
        f"heed: needs PyTorch, which {sys.executable} doesn't find; "
        f"pip install torch=={_build.torch_version}\n"
    )


@pytest.fixture
def copy(tmp_path):
    """The package without its library."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    return Path(shutil.copytree(PACKAGE, tmp_path / "heed", ignore=ignored))


def test_sources_without_a_library_say_so(copy):
    assert import_error(copy) == (
        f"heed: {copy}/libheed_ops.so is missing; build it with `make build`\n"
    )


def test_a_library_that_does_not_load_says_why(copy):
    source = copy / "gone.c"
    source.write_text("void gone(void);\nvoid f(void) { gone(); }\n")
    run("cc", "-shared", "-fPIC", "-Wl,-z,now", source, "-o", copy / "libheed_ops.so")
    message = import_error(copy)
    assert message.startswith("heed: the library doesn't load with PyTorch ")
    assert "undefined symbol: gone" in message and message.count("\n") == 1


# What type checkers see.

USER = """
import torch
import heed

q = k = v = torch.ones(1, 2, 3, 4)
wanted = bool(q.sum() > 0)
reveal_type(heed.attention(q, k, v, causal="top_left"))  # Tensor
reveal_type(heed.attention(q, k, v, return_lse=True))  # tuple[Tensor, Tensor]
reveal_type(heed.attention(q, k, v, return_lse=wanted))  # Tensor | tuple[Tensor, Tensor]
reveal_type(heed.varlen_attention(q, k, v, q, k))  # Tensor
reveal_type(heed.varlen_attention(q, k, v, q, k, return_lse=True))  # tuple[Tensor, Tensor]
reveal_type(heed.attention_stats(q, k, v)["top"])  # tuple[Tensor, Tensor]
reveal_type(heed.attention_stats(q, k, v)["entropy"])  # Tensor
heed.attention(q, k, v, score_mod=lambda score, b, h, t, s: score - (t - s))
heed.attention(q, k, v, casual="top_left")  # error
heed.attention(q, k, v, causal="topleft")  # error
heed.attention(q, k, v, score_mod=lambda score, b, h: score)  # error
heed.attention(q, k)  # error
heed.varlen_attention(q, k, v, q, k, kv_lengths=q)  # error
heed.linear_attention(q, k, v, feature_map="gelu")  # error
heed.attention_stats(q, k, v, want=8)  # error
heed.nn.LocalAttention(8, heads=2)
heed.nn.LocalAttention(8, head=2)  # error
"""


def test_mypy_finds_the_types_and_the_wrong_calls(tmp_path):
    user = tmp_path / "user.py"
    user.write_text(USER)
    options = ["--hide-error-context", "--no-pretty", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, user],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {}
    for line in done.stdout.splitlines():
        _, number, kind, message = line.split(":", 3)
        if kind == " error":
            found[int(number)] = "error"
        elif "Revealed type is" in message:
            found[int(number)] = message.split('"')[1].replace("torch._tensor.", "")
    wanted = {
        number: line.split("# ")[1]
        for number, line in enumerate(USER.splitlines(), 1)
        if "  # " in line
    }
    assert found == wanted, done.stdout + done.stderr
