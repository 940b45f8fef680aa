"""Markdown pages as tests see them: their Python, what it shall print, and a run of it."""

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PYTHON = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def python_blocks(page: Path) -> list[tuple[str, str]]:
    """(code, output) of each block of Python; the output is a `text` block right below it."""
    return _PYTHON.findall(page.read_text(encoding="utf-8"))


def run_page(page: Path) -> None:
    """Runs a page's Python from top to bottom; each block prints what the page shows below it."""
    names: dict[str, object] = {"__name__": page.stem}
    for code, shown in python_blocks(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "mods.py", "exec"), names)
        assert printed.getvalue().strip() == shown.strip(), f"{page.name}:\n{code}"
