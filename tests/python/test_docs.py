"""The Markdown quotes only what exists, and the checker that says so can fail."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("check_docs", ROOT / "scripts/check_docs.py")
check_docs = importlib.util.module_from_spec(spec)
sys.modules["check_docs"] = check_docs
spec.loader.exec_module(check_docs)

PROGRAM = """#!/bin/sh
case "$1" in
  translate) echo "  --model DIR   the model"; echo "  --html FILE   a page" ;;
  --help) echo "Subcommands:"; echo "  translate   Translate" ;;
  *) exit 2 ;;
esac
"""


@pytest.fixture
def tree(tmp_path):
    """A small repository with one document to fill in."""
    files = {
        ".gitignore": "/build/\n",
        "Makefile": "demo: build\n\techo\nbuild:\n\techo\n",
        "CMakePresets.json": '{"configurePresets": [{"name": "core"}]}',
        "heed/core/attention.h": "",
        "docs/guide.md": "# A guide\n\n## Two words\n",
        "build/bin/heed": PROGRAM,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "build/bin/heed").chmod(0o755)
    return tmp_path


def messages(tree, text):
    (tree / "README.md").write_text(text)
    return [str(problem) for problem in check_docs.check(tree)]


def block(language, *lines):
    return "\n".join([f"```{language}", *lines, "```", ""])


@pytest.mark.parametrize(
    "text",
    [
        "`heed/core/attention.h` and `core/attention.h`, `heed/*/attention.h`, `heed/`",
        "`attention.h`, `guide.md`",
        "`build/anything.html`, `DIR/config.json`, `CONFIG.yaml`, `../shared/data/`, `q/k/v`",
        "`make demo`, `make build`, `cmake --preset core`, `heed translate --model DIR`",
        "[guide](docs/guide.md), [part](docs/guide.md#two-words), [out](https://example.org/nothing.md)",
        block("console", "$ make demo", "made/up/output.txt"),
        block(
            "sh", "heed translate --html page.html --model \\", "  build/model < build/lines.txt"
        ),
        block("cpp", '#include "heed/core/attention.h"'),
        block("text", "made/up/path.txt"),
    ],
)
def test_accepts_what_exists(tree, text):
    assert messages(tree, text) == []


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("`heed/core/gone.h`", "no such path: heed/core/gone.h"),
        ("`script/setup`", "no such path: script/setup"),
        ("`heed/*/gone.h`", "no such path"),
        ("`gone.md`", "no such file: gone.md"),
        ("`make dance`", "make has no target dance"),
        ("`cmake --preset gone`", "cmake has no preset gone"),
        ("`heed dance`", "heed has no subcommand dance"),
        ("`build/bin/heed translate --mode DIR`", "heed translate has no option --mode"),
        ("[guide](docs/gone.md)", "link to nothing: docs/gone.md"),
        ("[guide](docs/guide.md#gone)", "no such heading: docs/guide.md#gone"),
        (block("console", "$ make demo && make dance"), "make has no target dance"),
        (block("sh", "HEED_ISA=v2 heed translate --model heed/gone"), "no such path: heed/gone"),
        (block("cpp", '#include "heed/core/gone.h"'), "no such header: heed/core/gone.h"),
    ],
)
def test_reports_what_does_not_exist(tree, text, complaint):
    assert any(complaint in message for message in messages(tree, "# Title\n\n" + text))


def test_reports_file_and_line(tree):
    assert messages(tree, "# Title\n\n`make dance`\n") == ["README.md:3: make has no target dance"]


def test_reports_a_path_of_one_machine_in_any_file(tree):
    (tree / "heed/core/attention.h").write_text("ok\n// " + "/wo" + "rk/main/x\n")
    assert messages(tree, "") == ["heed/core/attention.h:2: absolute path of one machine"]


def test_this_repository_has_no_problem():
    done = subprocess.run(
        [sys.executable, "scripts/check_docs.py"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout == ""
    assert done.returncode == 0


def test_the_readme_is_short_and_its_python_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
