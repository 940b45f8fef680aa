"""The benches time only what agrees with torch, count visible pairs only, judge targets rightly and
write what they measured; no test asserts a time.
"""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F

import heed

ROOT = Path(__file__).resolve().parents[2]
MODULES = [path.stem for path in (ROOT / "bench").glob("*.py")]


@pytest.fixture
def bench(monkeypatch):
    """The benches' modules by name, with peaks that take no time to measure."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    monkeypatch.setattr(heed, "peak_flops", lambda *dtype: 1e11)
    monkeypatch.setattr(heed, "read_bandwidth", lambda: 1e10)
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    for name in MODULES:
        del sys.modules[name]


SMALL = {"B": 2, "H": 1, "T": 4, "S": 4, "D": 8}


def small(bench, name="small", **options):
    return bench.table.Case(name, **(SMALL | options))


def shrunk(case):
    """The same case, a few numbers large, without what must compile first."""
    return replace(
        case,
        B=min(case.B, 2),
        H=min(case.H, 4),
        Hkv=case.Hkv and 2,
        T=min(case.T, 20),
        S=min(case.S, 20),
        D=16,
        window=case.window and 7,
        rival=None if case.rival == "FlexAttention" else case.rival,
    )


# Verification.


def test_a_wrong_result_is_not_timed(bench, monkeypatch):
    problem = bench.contestants.make(small(bench, backward=True))
    entrants = bench.contestants.ours(problem)
    assert bench.contestants.verify("small", entrants, "fp32") < 1e-5
    right = heed.attention
    monkeypatch.setattr(heed, "attention", lambda *a, **options: right(*a, **options) * 1.01)
    with pytest.raises(SystemExit, match="small: heed differs from the formula by 0.01"):
        bench.contestants.verify("small", entrants, "fp32")


def test_nan_agrees_with_nothing(bench):
    ones, nan = torch.ones(2), torch.full((2,), torch.nan)
    for found, expected in ((nan, ones), (ones, nan)):
        entrants = {
            "x": bench.contestants.Contestant(lambda f=found: (f,), lambda e=expected: (e,))
        }
        with pytest.raises(SystemExit):
            bench.contestants.verify("nan", entrants, "fp32")


def test_every_case_agrees_with_torch_in_small(bench, monkeypatch):
    monkeypatch.setattr(bench.contestants, "COLD_BYTES", 50_000)
    for case in map(shrunk, bench.table.CASES):
        problem = bench.contestants.make(case)
        entrants = bench.contestants.ours(problem)
        if (torchs := bench.contestants.rival(problem)) is not None:
            entrants["torch"] = torchs
        bench.contestants.verify(case.name, entrants, case.dtype)


@pytest.mark.parametrize("T, S", [(9, 9), (9, 5)])
def test_the_oracle_is_torchs_attention(bench, monkeypatch, T, S):
    monkeypatch.setattr(bench.oracle, "SLICE", 4)
    q, k, v = torch.randn(2, 3, T, 8), torch.randn(2, 3, S, 8), torch.randn(2, 3, S, 8)
    t, s = torch.arange(T)[:, None], torch.arange(S)
    bias = torch.randn(3, T + S)
    rule = bench.oracle.Rule(True, 5, lambda score, b, h, t, s: score + bias[h, t - s + S])
    mask = torch.where((s <= t) & (t - s < 5), bias[:, t - s + S], -torch.inf)
    if S < T:
        mask[:, S + 4 :] = 0  # rows without keys have no agreed value
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    rows = slice(0, S + 4)
    out = bench.oracle.attention(q, k, v, rule)
    torch.testing.assert_close(out[:, :, rows], expected[:, :, rows])


def test_the_oracles_statistics_are_the_matrix_own(bench, monkeypatch):
    monkeypatch.setattr(bench.oracle, "SLICE", 4)
    q, k, v = (torch.randn(2, 3, 10, 8) for _ in range(3))
    rule = bench.oracle.Rule(causal=True, window=6)
    want = ("column_sums", "diagonal:-2", "entropy", "max", "diagonal:1")
    found = bench.oracle.statistics(q, k, v, rule, want)
    t, s = torch.arange(10)[:, None], torch.arange(10)
    scores = (q @ k.mT / 8**0.5).masked_fill((s > t) | (t - s >= 6), -torch.inf)
    p = scores.softmax(-1)
    sums, back, entropy, largest, ahead = found
    torch.testing.assert_close(sums, p.sum(2))
    torch.testing.assert_close(back[:, :, 2:], p.diagonal(-2, 2, 3))
    assert (back[:, :, :2] == 0).all() and (ahead == 0).all()
    torch.testing.assert_close(entropy, -(p * p.clamp(min=1e-30).log()).sum(-1))
    torch.testing.assert_close(largest, scores.amax(-1))


def test_cold_keys_take_turns(bench, monkeypatch):
    monkeypatch.setattr(bench.contestants, "COLD_BYTES", 3 * 2 * SMALL["B"] * 4 * 8 * 4)
    problem = bench.contestants.make(small(bench, cold=True))
    places = [problem.keys_and_values()[0].data_ptr() for _ in range(8)]
    assert len(set(places)) == 4 and places[:4] == places[4:]


def test_a_rival_that_does_not_compile_is_a_note(bench, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(torch, "compile", broken)
    case = small(bench, score="ALiBi", rival="FlexAttention", causal=True, window=2)
    case = replace(case, figures=(bench.figures.Figure("ratio", 2.0),))
    with pytest.raises(bench.contestants.Unavailable):
        bench.contestants.rival(bench.contestants.make(case))
    result = bench.measure.measure(case, 0.0)
    assert result.note == "FlexAttention does not compile here: no compiler"
    verdicts = result.verdicts(bench.machine.Roofs())
    assert verdicts[0].value is None and verdicts[0].reached is None
    assert result.note in bench.report.row(result, verdicts)


def test_a_module_that_differs_from_its_formula_is_not_timed(bench, monkeypatch):
    def doubled(T):
        module, ours, formula = bench.nn_reach.pooling(T)
        return module, ours, lambda x: 2 * formula(x)

    bench.nn_reach.PAGE.verify("pooling", 16)
    monkeypatch.setitem(bench.nn_reach.CASES, "pooling", doubled)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        run(bench.nn_reach, monkeypatch, "pooling", "--lengths", 16)


# What is counted.


def test_masked_pairs_count_nothing(bench):
    def flops(**options):
        return bench.measure.useful_flops(small(bench, **options))

    plain = 2 * 4 * 4 * 4 * 8  # B T S pairs, 4 D each
    assert flops() == plain
    assert flops(causal=True) == plain * 10 / 16
    assert flops(causal=True, window=2) == plain * 7 / 16
    assert flops(causal=True, window=1) == plain * 4 / 16
    assert flops(causal=True, window=9) == plain * 10 / 16
    assert flops(lengths=True) == plain * (1 + 4) / 8
    assert flops(backward=True) == plain * 3.5
    assert flops(kind="additive") == plain * 6 / 4


def test_bytes_are_those_of_inputs_and_outputs(bench):
    problem = bench.contestants.make(small(bench, H=4, Hkv=2, dtype="bf16"))
    q, k, v = problem.leaves
    assert bench.measure.bytes_of(problem.case) == 2 * q.nbytes + k.nbytes + v.nbytes
    assert bench.measure.described(problem.case).kv_bytes == k.nbytes + v.nbytes


def test_contestants_take_turns(bench):
    calls = []
    runs = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    bench.measure.SAMPLE_SECONDS = 0.0
    samples = bench.measure.interleaved(runs, budget=0.0)
    assert [len(times) for times in samples.values()] == [5, 5]
    assert calls[4:] == ["a", "b"] * 5  # after two runs each to warm up


def test_roofs_only_rise_and_know_their_threads(bench, monkeypatch):
    peaks = iter([1e11, 3e11, 2e11, 1e11, 7e11, 4e11, 5e11, 6e11])
    monkeypatch.setattr(heed, "peak_flops", lambda *dtype: next(peaks))
    roofs = bench.machine.Roofs()
    assert roofs.fma() == 3e11
    roofs.measure_again()
    assert roofs.fma() == 3e11
    roofs.measure_again()
    assert roofs.fma() == 7e11
    with bench.machine.torch_threads(2):
        assert roofs.fma() == 6e11
    assert torch.get_num_threads() == 1 and roofs.fma() == 7e11


def test_bf16_has_a_roof_where_it_has_products(bench, monkeypatch):
    monkeypatch.setattr(heed, "isa", lambda: "v4")
    assert bench.machine.Roofs().bf16() is None
    monkeypatch.setattr(heed, "isa", lambda: "v4bf16")
    assert bench.machine.Roofs().bf16() == 1e11

    def refuse(*dtype):
        raise RuntimeError("[peak_flops] dtype: expected float32 or float64, got bfloat16")

    monkeypatch.setattr(heed, "peak_flops", refuse)
    assert bench.machine.Roofs().bf16() is None


# Targets.


@pytest.mark.parametrize(
    "name, target, value, reached, text",
    [
        ("ratio", 1.15, 1.2345, True, "1.23x (>= 1.15x: reached)"),
        ("ratio", 1.4, 1.4, True, "1.40x (>= 1.4x: reached)"),
        ("ratio", 1.4, 1.3979, False, "1.40x (>= 1.4x: missed by 0.0021x)"),
        ("ratio", 20, 16.5, False, "16.50x (>= 20x: missed by 3.5x)"),
        ("ratio", None, 0.5, None, "0.50x"),
        ("ratio", 2.0, None, None, "nothing to compare with"),
        ("fma", 0.85, 0.74, False, "74 % of FMA peak (>= 85 %: missed by 11 points)"),
        ("bf16", 0.70, None, None, "no bf16 products here"),
        ("plain_time", 1.12, 1.11, True, "1.11x plain's time (<= 1.12x: reached)"),
        ("plain_time", 1.12, 1.15, False, "1.15x plain's time (<= 1.12x: missed by 0.030x)"),
        ("extra", 0.05, 0.0754, False, "75.4 ms more than plain (<= 50 ms: missed by 25 ms)"),
        ("seconds", 3.0, 0.2, True, "0.20 s (<= 3 s: reached)"),
        (
            "memory",
            64 * 2**20,
            65 * 2**20,
            False,
            "65.0 MiB beyond inputs and outputs (<= 64 MiB: missed by 1.0 MiB)",
        ),
    ],
)
def test_verdict(bench, name, target, value, reached, text):
    verdict = bench.figures.Verdict(bench.figures.Figure(name, target), value)
    assert verdict.reached is reached
    assert str(verdict) == text
    assert (verdict.gap > 0) == (reached is False)


def test_targets_for_other_kernels_are_not_judged(bench, monkeypatch):
    figures = (bench.figures.Figure("ratio", 2.0), bench.figures.Figure("bf16", 0.7))
    result = bench.measure.described(small(bench, judged_with="v4bf16", figures=figures))
    result.samples = {"heed": [1.0], "torch": [1.5]}
    monkeypatch.setattr(heed, "isa", lambda: "v4")
    roofs = bench.machine.Roofs()
    ratio, share = result.verdicts(roofs)
    assert ratio.reached is None and share.reached is None
    assert str(ratio) == "1.50x (>= 2x: not judged with these kernels)"
    counted, *missed = bench.report.summary([result], roofs)
    assert counted == "Targets reached: 0 of 0; 2 can't be judged here." and not missed
    monkeypatch.setattr(heed, "isa", lambda: "v4bf16")
    assert [verdict.reached for verdict in result.verdicts(roofs)] == [False, False]


def test_figures_are_of_best_times(bench):
    best = {"heed": 2.0, "torch": 3.0, "plain": 1.5}
    measured = SimpleNamespace(best=best, flops=8e10, plain_flops=9e10, kv_bytes=10**10, memory=7)
    limits = SimpleNamespace(fma=lambda: 1e11, bf16=lambda: None, read=lambda: 2e10)
    figures = tuple(bench.figures.Figure(name) for name in bench.figures.KINDS)
    values = {v.figure.name: v.value for v in bench.figures.judge(figures, measured, limits)}
    assert values == {
        "ratio": 1.5,
        "fma": pytest.approx(0.4),
        "bf16": None,
        "read": 0.25,
        "plain_rate": pytest.approx(4e10 / 6e10),
        "plain_time": pytest.approx(4 / 3),
        "sweep": pytest.approx(1 / 3),
        "extra": 0.5,
        "seconds": 2.0,
        "memory": 7,
    }


def test_cases_are_told_apart_and_targets_have_bounds(bench):
    names = [case.name for case in bench.table.CASES]
    assert len(names) == len(set(names))
    for case in bench.table.TARGETS:
        assert any(figure.target is not None for figure in case.figures), case.name
    for case in bench.table.WATCHED:
        assert all(figure.target is None for figure in case.figures), case.name


def test_statistics_are_measured_against_the_same_mask(bench):
    plain = bench.table.plain
    windowed = small(bench, causal=True, window=2, score="ALiBi")
    assert plain(windowed) == small(bench)
    assert plain(replace(windowed, want=("max",))) == windowed


# Memory.


def test_memory_that_a_call_takes_is_seen(bench, monkeypatch):
    case = small(bench, B=1, H=8, T=1024, S=1024, D=16)
    ours = bench.memory.growth(case)

    def stored(problem):
        q, k, v = problem.leaves
        return (torch.softmax(q @ k.mT, -1) @ v,)

    monkeypatch.setattr(bench.contestants.Problem, "heed", stored)
    assert bench.memory.growth(case) - ours > 40 * 2**20  # scores and weights: 64 MiB


def test_memory_is_measured_in_a_process_of_its_own(bench):
    case = small(bench, causal=True, window=2, score="ALiBi", backward=True, want=())
    case = replace(case, figures=(bench.figures.Figure("memory", 64 * 2**20),))
    result = bench.measure.measure(case, 0.0)
    (verdict,) = result.verdicts(bench.machine.Roofs())
    assert verdict.value == result.memory and abs(result.memory) < 2**30


def test_a_process_that_fails_ends_the_bench(bench, monkeypatch):
    # Known here alone: the process that measures memory ends with an error.
    monkeypatch.setitem(bench.nn_reach.CASES, "ours alone", bench.nn_reach.pooling)
    with pytest.raises(subprocess.CalledProcessError):
        run(bench.nn_reach, monkeypatch, "ours alone", "--lengths", 16, "--budget", 0.01)


# What is written.


def run(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [f"bench/{module.__name__}.py", *map(str, arguments)])
    module.main()


def small_table(bench, monkeypatch):
    bounds = (("ratio", 1e-9), ("fma", 1e9), ("seconds", 1e9))
    figures = tuple(bench.figures.Figure(*f) for f in bounds)
    cases = [
        small(bench, "small", figures=figures),
        small(bench, "small causal", causal=True, dtype="bf16"),
        small(bench, "long", rival=None, want=("max",)),
        small(bench, "additive", kind="additive", rival="eager", backward=True),
    ]
    monkeypatch.setattr(bench.table, "CASES", cases)


def test_list_prints_the_cases(bench, monkeypatch, capsys):
    run(bench.attention, monkeypatch, "--list", "--cases", "decode")
    assert capsys.readouterr().out.splitlines() == [
        "fp32 decode H32/8 S8192 D128",
        "bf16 decode H32/8 S8192 D128",
    ]


def test_unknown_case(bench, monkeypatch):
    with pytest.raises(SystemExit, match="no case has 'nothing' in its name"):
        run(bench.attention, monkeypatch, "--cases", "nothing")


def test_rows_json_and_markdown(bench, monkeypatch, tmp_path, capsys):
    small_table(bench, monkeypatch)
    data, page = tmp_path / "results.json", tmp_path / "new/page.md"
    options = ["--quick", "--cases", "small", "--json", data, "--markdown", page]
    run(bench.attention, monkeypatch, *options)
    found = json.loads(data.read_text())
    assert {"date", "commit", "processor", "isa", "threads", "command", "torch"} <= set(found)
    assert found["fma_peak_gflops"] == 100 and found["read_gbytes"] == 10
    result, causal = found["results"]
    assert (result["case"], causal["case"]) == ("small", "small causal")
    assert result["heed"]["best_s"] > 0 and result["torch"]["samples"] >= 5
    assert result["ratio_best"] == result["torch"]["best_s"] / result["heed"]["best_s"]
    ratio, share, _ = result["figures"]
    assert ratio["reached"] and ratio["missed_by"] == 0
    assert share["reached"] is False and share["missed_by"] == pytest.approx(1e9 - share["value"])
    assert all(figure["reached"] is None for figure in causal["figures"])

    screen, text = capsys.readouterr().out, page.read_text()
    for name in ("small", "small causal"):
        assert f"\n{name} " in screen and f"\n| {name} |" in text
    assert "Targets reached: 2 of 3." in screen and "Targets reached: 2 of 3." in text
    assert "(>= 1e-09x: reached)" in text and "missed by" in text
    assert found["date"] in text and found["processor"] in text and "load average" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {8}


def test_the_cpu_clock_leaves_threaded_cases_out(bench):
    result = bench.measure.measure(small(bench, threads=2), 0.0, "cpu")
    assert result.note.startswith("skipped") and result.verdicts(bench.machine.Roofs()) == []


def test_a_command_is_written_as_seen_from_the_root(bench, monkeypatch):
    arguments = ["bench/attention.py", "--markdown", str(ROOT / "docs/results/x.md"), "--quick"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(sys, "executable", str(ROOT / ".venv/bin/python"))
    monkeypatch.chdir(ROOT)
    expected = ".venv/bin/python bench/attention.py --markdown docs/results/x.md --quick"
    assert bench.machine.command() == expected


def texts(path):
    """All words of a picture; raises if it is not well formed."""
    tree = ElementTree.parse(path)
    assert tree.getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert not any("nan" in v for e in tree.iter() for v in e.attrib.values())
    return [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]


def test_roofline_draws_what_the_bench_wrote(bench, monkeypatch, tmp_path):
    small_table(bench, monkeypatch)
    data, picture, page = (tmp_path / name for name in ("r.json", "r.svg", "r.md"))
    run(bench.attention, monkeypatch, "--quick", "--json", data)
    run(bench.roofline, monkeypatch, "--results", data, "--svg", picture, "--markdown", page)
    words = texts(picture)
    assert {"small", "small causal", "additive", "FMA peak 100 GF/s"} <= set(words)
    assert "long" not in words  # nothing to compare it with
    assert "| additive |" in page.read_text()


def test_roofline_measures_by_itself(bench, monkeypatch, tmp_path, capsys):
    small_table(bench, monkeypatch)
    run(bench.roofline, monkeypatch, "--quick", "--svg", tmp_path / "r.svg")
    assert "small" in texts(tmp_path / "r.svg")


def test_roof_is_the_lower_of_two(bench, monkeypatch):
    about = SimpleNamespace(fma_peak_gflops=100.0, bf16_peak_gflops=200.0, read_gbytes=10.0)
    roof = bench.roofline.roof
    assert (roof(2.0, about), roof(10.0, about), roof(50.0, about)) == (20, 100, 100)
    assert roof(50.0, about, "bf16") == 200
    about.bf16_peak_gflops = None
    assert roof(50.0, about, "bf16") == 100


def test_growth_table_and_picture(bench, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench.growth, "LENGTHS", [32, 64, 128])
    monkeypatch.setattr(bench.growth, "WINDOWS", [8, 16, 1024])
    picture, page = tmp_path / "g.svg", tmp_path / "g.md"
    options = ["--quick", "--up-to", 64, "--svg", picture, "--markdown", page]
    run(bench.growth, monkeypatch, *options)
    names = {line.name for line in bench.growth.LINES}
    assert names <= set(texts(picture))
    text = page.read_text()
    assert all(name in text for name in names)
    firsts = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    assert firsts == ["T", "---:", "32", "64", "window", "---:", "8", "16"]
    assert "T     64" in capsys.readouterr().out


def test_a_line_ends_where_it_would_take_too_long(bench):
    goes_on = bench.growth.goes_on
    assert goes_on({}, 512, 4, longest=1.0)
    assert goes_on({512: 0.25}, 1024, 4, longest=1.0)
    assert not goes_on({512: 0.26}, 1024, 4, longest=1.0)
    assert not goes_on({512: 0.01}, 2048, 4, longest=1.0)  # it ended before


# Pictures.


def test_logarithmic_places(bench):
    scale = bench.svg.LogScale(1, 100, 0, 200)
    assert [scale(v) for v in (1, 10, 100)] == pytest.approx([0, 100, 200])
    assert scale.decades() == [1, 10, 100]
    assert scale.doublings() == [1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize(
    "places, expected",
    [
        ([], []),
        ([5.0], [5.0]),
        ([0.0, 30.0], [0.0, 30.0]),
        ([7.0, 7.0], [2.0, 12.0]),
        ([30.0, 0.0, 3.0], [30.0, -3.5, 6.5]),
        ([3.0, 0.0, 5.0, 4.0], [-2.0, -12.0, 18.0, 8.0]),
    ],
)
def test_spread(bench, places, expected):
    assert bench.svg.spread(places, 10) == pytest.approx(expected)


def test_markup_is_escaped(bench):
    drawn = bench.svg.document(10, 10, "a < b", [bench.svg.text(0, 0, 'x & "y"', fill='"<')])
    root = ElementTree.fromstring(drawn)
    assert [element.text for element in root if element.text] == ["a < b", 'x & "y"']
