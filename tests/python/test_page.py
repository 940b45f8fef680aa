"""The page of `heed translate --html`, opened in a real browser from a file."""

import json
import os
import pathlib
import subprocess

import pytest
from headless_chromium import Chromium, find_chromium

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium here: apt-get install chromium"
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
DRIVER = pathlib.Path(os.environ.get("HEED_BUILD", ROOT / "build")) / "bin" / "page_driver"
NARROWEST = 14  # pixels of a cell, as in page.html


class Pages:
    """Made-up pages with what `--json` says of the same alignments."""

    def __init__(self, folder, browser):
        self.folder, self.browser = folder, browser

    def json(self, name):
        return [
            json.loads(line)
            for line in (self.folder / f"{name}.jsonl").read_text("utf-8").split("\n")[:-1]
        ]

    def numbers(self, name):
        """Attention as the JSON's own text, digit by digit."""
        text = (self.folder / f"{name}.jsonl").read_text("utf-8").split("\n")[:-1]
        return [json.loads(line, parse_float=str, parse_int=str)["attention"] for line in text]

    def open(self, name, fragment="", width=1200, height=900, scheme="light"):
        self.browser.resize(width, height)
        self.browser.emulate(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
        self.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=0, y=0)
        self.browser.open((self.folder / f"{name}.html").as_uri() + fragment)
        return self.browser


@pytest.fixture(scope="module")
def browser():
    with Chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def pages(browser, tmp_path_factory):
    assert DRIVER.exists(), f"{DRIVER} is not built"
    folder = tmp_path_factory.mktemp("pages")
    subprocess.run([DRIVER, folder], check=True)
    return Pages(folder, browser)


def complaints(browser):
    """Console messages, exceptions, log entries such as CSP violations, and all requests but the file's own."""
    browser.evaluate("new Promise(done => setTimeout(done, 50))")  # late messages arrive
    kinds = {
        "Runtime.consoleAPICalled",
        "Runtime.exceptionThrown",
        "Log.entryAdded",
        "Network.requestWillBeSent",
    }
    found = [event["params"] for event in browser.events if event.get("method") in kinds]
    return [what for what in found if what.get("type") != "Document"]


def requests(browser):
    return [event for event in browser.events if event.get("method") == "Network.requestWillBeSent"]


def text(browser, selector):
    return browser.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def readout(browser):
    return " ".join(text(browser, "#readout").split())


def use_everything(browser):
    browser.hover("#matrix td[data-t='0'][data-s='0']")
    browser.click("#target [data-t='0']")
    browser.click("#source [data-s='0']")
    for key in ("Tab", "ArrowRight", "ArrowDown", "End", "Escape"):
        browser.press(key)


@pytest.mark.parametrize("name", ["one", "several", "large", "hostile"])
def test_opens_and_works_without_a_message_or_a_request(pages, name):
    browser = pages.open(name)
    use_everything(browser)
    assert complaints(browser) == []
    assert len(requests(browser)) == 1  # the file itself


def test_the_collector_of_complaints_sees_them(pages):
    browser = pages.open("one")
    browser.evaluate("console.log('a message')")
    browser.evaluate("void fetch('https://example.invalid/').catch(() => 0)")
    assert len(complaints(browser)) >= 2


def test_the_programs_own_page_shows_what_its_json_says(pages):
    program = DRIVER.parent / "heed"
    sentence = ["--model", ROOT / "assets" / "en-zh", "Where is the station?"]
    page = pages.folder / "program.html"
    subprocess.run([program, "translate", *sentence, "--html", page], check=True)
    done = subprocess.run(
        [program, "translate", *sentence, "--json"], check=True, capture_output=True
    )
    said = json.loads(done.stdout, parse_float=str, parse_int=str)
    browser = pages.open("program")
    for t, row in enumerate(said["attention"]):
        for s, weight in enumerate(row):
            browser.hover(f"#matrix td[data-t='{t}'][data-s='{s}']")
            assert readout(browser).endswith(weight)
    assert complaints(browser) == []


def test_hovering_a_cell_shows_what_json_says(pages):
    browser = pages.open("one")
    translation, numbers = pages.json("one")[0], pages.numbers("one")[0]
    for t, target in enumerate(translation["target_tokens"]):
        for s, source in enumerate(translation["source_tokens"]):
            browser.hover(f"#matrix td[data-t='{t}'][data-s='{s}']")
            assert (
                readout(browser) == f"{target.lstrip('▁')} ← {source.lstrip('▁')} {numbers[t][s]}"
            )


def test_every_label_of_a_large_page_has_the_digits_of_json(pages):
    browser = pages.open("large")
    shown = browser.evaluate("""[...document.querySelectorAll("#matrix tbody tr")].map(
        row => [...row.cells].slice(1).map(cell => cell.getAttribute("aria-label").split(" ").at(-1)))""")
    assert shown == pages.numbers("large")[0]


def strengths(browser, side):
    """How strongly each word is lit: 0 to 1, None when it is not."""
    return browser.evaluate(f"""[...document.querySelectorAll("#{side} button")].map(word =>
        word.classList.contains("shaded") ? Number(getComputedStyle(word).getPropertyValue("--shade")) ** 2 : null)""")


def test_a_target_word_lights_up_source_words_in_proportion(pages):
    browser = pages.open("one")
    weights = pages.json("one")[0]["attention"]
    for t in range(len(weights)):
        browser.click(f"#target [data-t='{t}']")
        assert strengths(browser, "source") == pytest.approx(weights[t], abs=2e-3)
    colors = browser.evaluate("""[...document.querySelectorAll("#source button")].map(
        word => getComputedStyle(word).backgroundColor)""")
    assert (
        colors[0] == colors[1] == colors[2] != colors[3]
    )  # the last row's weights are 0, 0, 0 and 1
    browser.press("Escape")
    browser.hover("h1")
    assert strengths(browser, "source") == [None] * 4


def test_a_source_word_lights_up_target_words_in_proportion(pages):
    browser = pages.open("one")
    weights = pages.json("one")[0]["attention"]
    browser.click("#source [data-s='1']")
    assert strengths(browser, "target") == pytest.approx([row[1] for row in weights], abs=2e-3)
    assert readout(browser).startswith("love → 爱 0.873412")


def test_a_second_click_lets_go(pages):
    browser = pages.open("one")
    pressed = "document.querySelector(\"#target [data-t='1']\").getAttribute('aria-pressed')"
    browser.click("#target [data-t='1']")
    assert browser.evaluate(pressed) == "true"
    browser.click("#target [data-t='1']")
    assert browser.evaluate(pressed) == "false"


def test_a_tap_shows_the_value(pages):
    browser = pages.open("one", width=400)
    browser.tap("#matrix td[data-t='2'][data-s='1']")
    assert readout(browser) == "你 ← love 0.1012"


def focused(browser):
    return browser.evaluate("""(() => {
        const {t, s} = document.activeElement.dataset;
        return [t ?? null, s ?? null];
    })()""")


def test_the_keyboard_reaches_every_part(pages):
    browser = pages.open("one")
    walk = [
        ("Tab", [None, "0"]),
        ("ArrowRight", [None, "1"]),  # source words
        ("Tab", ["0", None]),
        ("End", ["3", None]),  # target words
        ("Tab", ["0", "0"]),
        ("ArrowRight", ["0", "1"]),
        ("ArrowDown", ["1", "1"]),
        ("Home", ["1", None]),
        ("ArrowUp", ["0", None]),
        ("ArrowUp", ["0", None]),
        ("End", ["0", "3"]),
        ("ArrowUp", [None, "3"]),
        ("Home", [None, "0"]),
        ("ArrowLeft", [None, "0"]),
    ]
    for key, place in walk:
        browser.press(key)
        assert focused(browser) == place, key
    browser.press("End", ctrl=True)
    assert focused(browser) == ["3", "3"]
    assert readout(browser) == "。 ← . 1.0"
    browser.press("Escape")
    assert readout(browser).startswith("Point at")


def test_a_screen_reader_finds_a_labelled_grid(pages):
    browser = pages.open("one")
    browser.call("Accessibility.enable")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    names = {}
    for node in nodes:
        names.setdefault(node.get("role", {}).get("value"), []).append(
            node.get("name", {}).get("value")
        )
    assert names["grid"] == ["Attention of 4 target tokens to 4 source tokens"]
    assert names["columnheader"] == ["I", "love", "you", "."]
    assert names["rowheader"] == ["我", "爱", "你", "。"]
    assert "爱 ← love 0.873412" in names["gridcell"]
    assert {"Source", "Translation"} <= set(names["group"])
    browser.call("Accessibility.disable")


@pytest.mark.parametrize("name", ["one", "several", "large", "hostile", "none"])
def test_nothing_overflows_a_narrow_window(pages, name):
    browser = pages.open(name, width=400, height=800)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400


def test_sixty_by_sixty_has_cells_to_hit_and_fits_a_desk(pages):
    browser = pages.open("large", width=400)
    assert browser.evaluate("document.querySelector('#matrix tbody td').offsetWidth") >= NARROWEST
    browser = pages.open("large", width=1300)
    assert (
        browser.evaluate(
            "(frame => frame.scrollWidth - frame.clientWidth)(document.querySelector('.frame'))"
        )
        <= 0
    )


def test_sentences_are_picked_from_a_list_and_by_address(pages):
    browser = pages.open("several")
    translations = pages.json("several")
    assert browser.evaluate("document.querySelectorAll('nav button').length") == len(translations)
    assert text(browser, "#source") == translations[0]["source"]
    browser.click("nav li:nth-child(2) button")
    assert text(browser, "#source") == "Where is the station?"
    assert (
        text(browser, "nav [aria-current]")
        == translations[1]["source"] + translations[1]["translation"]
    )
    browser = pages.open("several", "#3")
    assert text(browser, "#target") == translations[2]["translation"]
    assert complaints(browser) == []


def test_one_sentence_needs_no_list(pages):
    assert pages.open("one").evaluate("document.querySelector('nav').checkVisibility()") is False


def test_hostile_tokens_stay_text(pages):
    browser = pages.open("hostile")
    assert browser.evaluate("document.title") == "Where each word looks"
    assert browser.evaluate("document.querySelectorAll('script, img').length") == 2
    tokens = pages.json("hostile")[0]["source_tokens"]
    assert text(browser, "#source [data-s='0']") == tokens[0].removeprefix("▁")


def test_no_sentences_is_said(pages):
    assert "no sentences" in text(pages.open("none"), "main")


def contrasts(browser):
    """WCAG contrast of text and background for each cell and swatch with text."""
    return browser.evaluate("""(() => {
        const pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
        const luminance = color => {
            pen.fillStyle = color;
            pen.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map(
                c => c / 255 <= .04045 ? c / 255 / 12.92 : ((c / 255 + .055) / 1.055) ** 2.4);
            return .2126 * r + .7152 * g + .0722 * b;
        };
        return [...document.querySelectorAll(".shaded")].filter(e => e.textContent).map(element => {
            const style = getComputedStyle(element);
            const [low, high] = [luminance(style.color), luminance(style.backgroundColor)].sort((a, b) => a - b);
            return (high + .05) / (low + .05);
        });
    })()""")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_values_can_be_read_in_light_and_dark(pages, scheme):
    browser = pages.open("several", "#3", scheme=scheme)
    values = contrasts(browser)
    assert len(values) > 50
    assert min(values) >= 3.5


def test_a_large_matrix_prints_on_one_page_width(pages):
    browser = pages.open("large", width=720)
    browser.emulate("print", prefers_color_scheme="dark")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 720
    assert (
        browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    )


def test_screenshots_can_be_looked_at(pages):
    """Writes pictures beside the pages, for people; here only that the two themes differ."""
    pictures = []
    for scheme in ("light", "dark"):
        for width in (400, 1200):
            browser = pages.open("several", "#2", width=width, scheme=scheme)
            browser.click("#target [data-t='0']")
            path = pages.folder / f"{scheme}-{width}.png"
            browser.screenshot(path)
            pictures.append(path.read_bytes())
    assert len(set(pictures)) == 4
