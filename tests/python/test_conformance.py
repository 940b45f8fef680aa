"""The fast cases of other people's suites, one test each; `make conformance` runs all."""

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))

from suites import SUITES  # noqa: E402


def fast_cases():
    for suite in SUITES:
        if any(importlib.util.find_spec(name) is None for name in suite.needs):
            yield pytest.param(None, id=suite.name, marks=pytest.mark.skip(f"needs {suite.needs}"))
            continue
        for case in suite.cases():
            if case.fast:
                yield pytest.param(case.run, id=f"{suite.name}: {case.name}")


@pytest.mark.parametrize("run", list(fast_cases()))
def test_case(run):
    run()
