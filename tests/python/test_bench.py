"""The bench times only what agrees with torch, counts visible pairs only, and writes what it measured."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import heed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench():
    spec = importlib.util.spec_from_file_location("bench_attention", ROOT / "bench/attention.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


SMALL = {"B": 2, "H": 1, "T": 4, "S": 4, "D": 8}


def test_a_wrong_result_is_not_timed(bench, monkeypatch):
    problem = bench.make(bench.Case("small", **SMALL, backward=True))
    assert bench.verify(problem) < 1e-5
    right = heed.attention
    monkeypatch.setattr(heed, "attention", lambda *a, **options: right(*a, **options) * 1.01)
    with pytest.raises(SystemExit, match="small: differs from torch"):
        bench.verify(problem)


def test_masked_pairs_count_nothing(bench):
    def flops(**options):
        return bench.useful_flops(bench.make(bench.Case("", **SMALL, **options)))

    plain = 2 * 4 * 4 * 4 * 8  # B T S pairs, 4 D each
    assert flops() == plain
    assert flops(causal="top_left") == plain * 10 / 16
    assert flops(lengths=True) == plain * (1 + 4) / 8
    assert flops(backward=True) == plain * 3.5


def test_every_case_agrees_with_torch_in_small(bench):
    for case in bench.CASES:
        small = bench.Case(
            **(vars(case) | {"B": 2, "T": min(case.T, 20), "S": min(case.S, 20), "D": 16})
        )
        bench.verify(bench.make(small))


def test_json_holds_circumstances_and_results(bench, monkeypatch, tmp_path, capsys):
    path = tmp_path / "results.json"
    monkeypatch.setattr(bench, "CASES", [bench.Case("small", **SMALL)])
    monkeypatch.setattr(sys, "argv", ["attention.py", "--quick", "--json", str(path)])
    bench.main()
    found = json.loads(path.read_text())
    assert {"commit", "processor", "isa", "threads", "command", "torch"} <= set(found)
    (result,) = found["results"]
    assert result["case"] == "small" and result["heed"]["best_s"] > 0
    assert "small" in capsys.readouterr().out
