"""The tutorial's pages print what they show, and lead from one to the next in the index's order."""

import re

import pytest
from pages import ROOT, python_blocks, run_page

TUTORIAL = ROOT / "docs/tutorial"
PAGES = sorted(TUTORIAL.glob("[0-9]-*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_prints_what_it_shows(page):
    assert sum(bool(shown.strip()) for _, shown in python_blocks(page)) >= 3
    run_page(page)


def test_the_pages_are_in_the_order_of_the_index():
    index = (TUTORIAL / "README.md").read_text(encoding="utf-8")
    names = [page.name for page in PAGES]
    assert len(names) == 6
    assert re.findall(r"\]\((\d-[\w-]+\.md)\)", index) == names
    for page, following in zip(PAGES[:-1], names[1:], strict=True):
        assert re.search(rf"Next:\s\[[^]]*\]\({following}\)", page.read_text(encoding="utf-8"))
