"""Each mechanism's page: the same parts in the same order, and Python that prints what it shows."""

import importlib
import inspect
import json
import pkgutil
import re
import subprocess

import pytest
from pages import ROOT, python_blocks, run_page
from torch import nn

import heed.nn

HEED = ROOT / "build/bin/heed"
FOLDER = ROOT / "docs/mechanisms"
INDEX = FOLDER / "README.md"
EXAMPLES = FOLDER / "worked-examples.md"
PAGES = sorted(set(FOLDER.glob("*.md")) - {INDEX, EXAMPLES})
SECTIONS = ["Sizes", "Use", "Program", "When", "Start", "Parity", "Cost"]
LESSON = re.compile(r"`heed learn (\w+)`")
OPTIONAL = {"Start", "Parity"}
LOOKS_NOWHERE = {"gradient_checkpointing"}  # it changes what training keeps, not what it finds
MODULES = [name for name in heed.nn.__all__ if issubclass(getattr(heed.nn, name), nn.Module)]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def text_of(page):
    return page.read_text(encoding="utf-8")


def introduction(page):
    return text_of(page).split("\n## ")[0]


def section(page, name):
    return re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text_of(page), re.MULTILINE | re.DOTALL)[1]


def python_of(page):
    return "\n".join(code for code, _ in python_blocks(page))


@pytest.mark.parametrize("page", [*PAGES, EXAMPLES, INDEX], ids=lambda page: page.stem)
def test_the_python_of_a_page_prints_what_it_shows(page):
    run_page(page)


@each_page
def test_a_page_has_its_parts_in_the_order_of_all(page):
    sections = re.findall(r"^## (.*)$", text_of(page), re.MULTILINE)
    assert sections == [name for name in SECTIONS if name in sections]
    assert set(sections) >= set(SECTIONS) - OPTIONAL


@each_page
def test_a_page_begins_with_formula_paper_picture_and_lesson(page):
    start = introduction(page)
    assert re.match(r"# .*\n\n```text\n(.+\n)+```\n", start), "no formula below the title"
    assert re.search(r"\b(19|20)\d\d,\s\*[A-Z]", start), "no paper: year and title"
    if page.stem in LOOKS_NOWHERE:
        return
    assert re.findall(r"^!\[.+\]\((.*)\)$", start, re.MULTILINE) == [
        f"../images/mechanisms/{page.stem}.svg"
    ]
    assert LESSON.search(start), "no lesson"


@pytest.mark.skipif(not HEED.exists(), reason="build/bin/heed is not built; run make build")
def test_pages_name_their_lessons():
    listed = subprocess.run([HEED, "learn", "--list", "--json"], capture_output=True, check=True)
    lessons = {}
    for lesson in json.loads(listed.stdout):
        lessons.setdefault(lesson["page"], set()).add(lesson["name"])
    named = {page.stem: set(LESSON.findall(introduction(page))) for page in PAGES}
    assert named == {page: lessons.get(page, set()) for page in named}
    assert set(lessons) <= set(named)
    rows = re.findall(r"^\| \[.*\|$", text_of(INDEX), re.MULTILINE)
    in_rows = {name for row in rows for name in re.findall(r"`(\w+)`", row.split(" | ")[-1])}
    assert in_rows <= set().union(*lessons.values())


@each_page
def test_a_page_shows_both_languages_and_imports_from_one_place(page):
    use, program = (section(page, name) for name in ("Use", "Program"))
    assert "```python\n" in use and "```cpp\n" in use and "```python\n" in program
    assert not re.search(r"heed\.nn\.\w+ import", python_of(page)), "from heed.nn import ..."


@each_page
def test_measured_costs_name_the_command_that_measured_them(page):
    cost = section(page, "Cost")
    if re.search(r"\d (ms|MiB)\b|, (ms|MiB) \|", cost):
        assert re.search(r"`python bench/\w+\.py[^`]*`", cost)


def test_the_index_has_a_row_for_each_page():
    rows = re.findall(r"^\| \[[^]]*\]\((\w+\.md)\)", text_of(INDEX), re.MULTILINE)
    assert sorted(set(rows)) == [page.name for page in PAGES]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_used_on_a_page(name):
    assert any(re.search(rf"\b{name}\b", python_of(page)) for page in PAGES)


def test_all_modules_are_exported():
    """And in the order of `sorted`, so that each has one place."""
    assert heed.nn.__all__ == sorted(heed.nn.__all__)
    for info in pkgutil.iter_modules(heed.nn.__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"heed.nn.{info.name}")
        for name, value in inspect.getmembers(module, inspect.isclass):
            if value.__module__ == module.__name__:
                assert getattr(heed.nn, name) is value and name in heed.nn.__all__, name
