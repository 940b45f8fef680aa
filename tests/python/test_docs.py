"""The Markdown quotes only what exists, the checker that says so can fail, and its code runs."""

import contextlib
import importlib.util
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import heed

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
        ".gitignore": "/build/\n# Written first.\n.*.tmp\n",
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


def test_temporaries_are_not_read(tree):
    # Drawn at the same time, a picture's temporary is listed and gone before it can be read.
    (tree / "docs/.picture.svg.x7Qz.tmp").write_text("/wo" + "rk/main/x\n")
    assert messages(tree, "") == []
    assert not any(path.suffix == ".tmp" for path in check_docs.Repository(tree).files)


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


# The page of score programs: its Python runs, its C++ is the example's, and both are the program
# that is printed below them. What the C++ prints is compared in tests/consumer/run.cmake.

PAGE = ROOT / "docs/score-programs.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page_sections():
    """{heading: [(language, text), ...]} of the page's fenced blocks, in order."""
    parts = re.split(r"^##+ (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        heading: BLOCK.findall(text)
        for heading, text in zip(["", *parts[1::2]], parts[::2], strict=True)
    }


@pytest.fixture
def last_call(monkeypatch):
    """What heed.attention was last given and what it gave."""
    attention, seen = heed.attention, {}

    def spy(*tensors, **options):
        seen.update(tensors=tensors, options=options, out=attention(*tensors, **options))
        return seen["out"]

    monkeypatch.setattr(heed, "attention", spy)
    return seen


def again_by_text(call, text):
    """The last call, its program given as text."""
    options = dict(call["options"])
    mods = [options.pop(name, None) for name in ("score_mod", "mask_mod")]
    tables = heed.trace_program(*mods).tables
    return torch.ops.heed.attention(*call["tensors"], program=text, tables=tables, **options)[0]


def test_the_page_of_score_programs_says_what_its_python_does(last_call):
    names = {}
    programs = 0
    for heading, blocks in page_sections().items():
        for i, (language, code) in enumerate(blocks):
            before = blocks[i - 1][0] if i > 0 else ""
            after = blocks[i + 1] if i + 1 < len(blocks) else ("", "")
            if language == "python":
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(code, "mods.py", "exec"), names)
                shown = after[1] if after[0] == "text" else ""
                assert printed.getvalue().strip() == shown.strip(), heading
            elif language == "text" and before == "cpp" and blocks[0][0] == "python":
                assert torch.equal(last_call["out"], again_by_text(last_call, code)), heading
                programs += 1
    assert programs == 10
    assert names["slope"].grad.abs().min() > 0


def test_cpp_in_documents_is_quoted_from_examples():
    examples = [path.read_text(encoding="utf-8") for path in ROOT.glob("examples/*.cpp")]
    quoted = 0
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for language, code in BLOCK.findall(document.read_text(encoding="utf-8")):
            if language == "cpp":
                assert any(code in example for example in examples), code
                quoted += 1
    assert quoted > 10
