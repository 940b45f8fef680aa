"""The reference names every public function, and its pages' Python prints what they show."""

import inspect
import operator
import re

import pytest
from pages import ROOT, python_blocks, run_page

import heed

PAGES = ROOT / "docs/python"
INDEX = PAGES / "README.md"
MODULES = PAGES / "nn.md"  # names those of heed.nn, whose pages are the mechanisms'
ENTRY = re.compile(r"\[`([\w.]+)`\]\(([^)#]+)(?:#[^)]*)?\)")
ENTRIES = {
    name: (PAGES / page).resolve()
    for index in (INDEX, MODULES)
    for name, page in ENTRY.findall(index.read_text(encoding="utf-8"))
}


def public_names():
    """{name in the index: object}; the functions of flash_attn by their own names."""
    names = {name: getattr(heed, name) for name in heed.__all__}
    for module, prefix in (("flash_attn", ""), ("nn", "nn."), ("onnx", "onnx.")):
        if module in names:
            names |= {prefix + n: getattr(names[module], n) for n in names[module].__all__}
    return {name: value for name, value in names.items() if not name.startswith("__")}


def is_result(value):
    """Whether nobody makes one by hand: to be spoken of is enough."""
    return inspect.isclass(value) and issubclass(value, tuple)


def functions():
    return {name: value for name, value in public_names().items() if inspect.isfunction(value)}


@pytest.mark.parametrize("name", public_names())
def test_a_public_name_is_in_the_index_and_its_page_has_an_example(name):
    assert name in ENTRIES, f"{INDEX} has no entry for {name}"
    code = "\n".join(code for code, _ in python_blocks(ENTRIES[name]))
    if is_result(public_names()[name]):
        code = ENTRIES[name].read_text(encoding="utf-8")
    used = re.escape(name.removeprefix("nn."))
    assert re.search(rf"\b{used}\b", code), f"{ENTRIES[name]}: no example of {name}"


@pytest.mark.parametrize("name", ENTRIES)
def test_the_index_names_what_exists(name):
    flash_attn = getattr(heed, "flash_attn", None)
    module = flash_attn if name.startswith("flash_attn_") else heed
    assert operator.attrgetter(name)(module)


@pytest.mark.parametrize("name", functions())
def test_a_docstring_says_what_goes_in_comes_out_and_goes_wrong(name):
    function = functions()[name]
    text = inspect.getdoc(function) or ""
    assert text[:1].isupper() or text.startswith(("out", "[")), text
    refers = re.search(r"[Aa]rguments[^.]*those of|[Aa]s (in|of) ", text)
    for parameter in inspect.signature(function).parameters:
        assert refers or re.search(rf"\b{parameter}\b", text), f"{name}: nothing on {parameter}"
    if inspect.signature(function).parameters:
        assert re.search(r"Raises:|[Ee]rrors", text), f"{name}: nothing on errors"


RUN = {str(page.relative_to(ROOT)) for page in ENTRIES.values()}


@pytest.mark.parametrize("page", sorted(page for page in RUN if "mechanisms/" not in page))
def test_the_python_of_a_page_prints_what_it_shows(page):
    run_page(ROOT / page)
