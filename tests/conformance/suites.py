"""All suites, in the order of the table. A module that a suite needs is imported when it runs."""

import importlib
from pathlib import Path

from suite import Suite

SUITES: list[Suite] = [
    suite
    for path in sorted(Path(__file__).parent.glob("*_suite.py"))
    for suite in importlib.import_module(path.stem).SUITES
]
