"""`heed learn`: what it lists, trains, prints and draws."""

import json
import os
import re
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEED = Path(os.environ.get("HEED_BUILD", ROOT / "build")) / "bin" / "heed"


def learn(*arguments):
    return subprocess.run([HEED, "learn", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def lessons():
    done = learn("--list", "--json")
    assert done.returncode == 0 and done.stderr == ""
    return json.loads(done.stdout)


def test_list_names_each_lesson_with_mechanism_and_task(lessons):
    text = " ".join(learn("--list").stdout.split())
    for lesson in lessons:
        assert f"{lesson['name']} mechanism {lesson['mechanism']} task {lesson['task']}" in text
        if lesson["must_fail"]:
            assert f"must fail {lesson['cannot']}" in text


def test_every_page_of_a_mechanism_has_a_lesson_that_passes(lessons):
    pages = {path.stem for path in (ROOT / "docs/mechanisms").glob("*.md")}
    drawn = {lesson["page"] for lesson in lessons if not lesson["must_fail"]}
    assert drawn == pages - {"README", "worked-examples", "gradient_checkpointing"}


def test_pages_name_lessons_that_there_are(lessons):
    names = {lesson["name"] for lesson in lessons}
    for path in (ROOT / "docs").rglob("*.md"):
        for name in re.findall(r"heed learn ([a-z]\w*)", path.read_text()):
            assert name in names, path


def test_every_picture_is_there_and_small(lessons):
    for lesson in lessons:
        picture = ROOT / "docs/images/mechanisms" / f"{lesson['page']}.svg"
        assert picture.stat().st_size < 20_000, picture
        ElementTree.parse(picture)


def test_additive_prints_its_parts():
    done = learn("additive")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no live line where nobody looks
    for part in ("mechanism", "task", "trained", "accuracy", "hit rate", "chance"):
        assert re.search(rf"^  {part}  +\S", done.stdout, re.MULTILINE), part
    assert done.stdout.startswith("additive\n")
    assert done.stdout.endswith("additive: passed\n")
    # The heat map: six queries over ten entries, the planted ones in brackets and large.
    assert re.search(r"^ +([a-t]:[0-9] +){10}$", done.stdout, re.MULTILINE)
    rows = re.findall(r"^[A-T] +(.*)$", done.stdout, re.MULTILINE)
    assert len(rows) == 6
    for row in rows:
        assert re.findall(r"\[(\d)\]", row) in (["8"], ["9"])


def test_json_holds_the_figures_and_the_weights():
    done = learn("location", "--json", "--seed", 2)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["name"] == "location" and report["page"] == "location_attention"
    assert report["passed"] and not report["interrupted"] and not report["must_fail"]
    assert report["seed"] == 2
    assert report["accuracy"] >= 0.98 and report["hit_rate"] >= 0.98
    assert report["chance"] == pytest.approx(1 / 12)
    example = report["example"]
    T, S = len(example["target_tokens"]), len(example["source_tokens"])
    assert [len(row) for row in example["attention"]] == [S] * T
    for t, (row, planted) in enumerate(zip(example["attention"], example["planted"], strict=True)):
        assert sum(row) == pytest.approx(1, abs=1e-4)
        assert planted == [S - 1 - t] and max(row) == row[S - 1 - t]


def test_same_seed_same_figures():
    def figures(*arguments):
        report = json.loads(learn("additive", "--steps", 20, "--json", *arguments).stdout)
        return {key: value for key, value in report.items() if key != "seconds"}

    assert figures() == figures("--seed", 1)
    assert figures()["loss"] != figures("--seed", 2)["loss"]


def test_too_little_training_is_a_finding():
    done = learn("additive", "--steps", 3)
    assert done.returncode == 1
    assert done.stdout.endswith("additive: NOT PASSED\n")


def test_what_must_fail_does_so():
    done = learn("location_dictionary", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["must_fail"] and report["passed"] and report["accuracy"] < 0.5
    assert report["cannot"]


def test_several_lessons_and_seeds_are_one_table():
    done = learn("dot", "location_dictionary", "--seeds", 2, "--steps", 10)
    head, *rows, summary = done.stdout.splitlines()
    assert head.split() == ["lesson", "seed", "accuracy", "hit", "rate", "chance", "seconds"]
    assert [row.split()[:2] for row in rows] == [
        ["dot", "1"],
        ["dot", "2"],
        ["location_dictionary", "1"],
        ["location_dictionary", "2"],
    ]
    assert all("NOT PASSED" in row for row in rows[:2])
    assert all("fails, as it must" in row for row in rows[2:])
    assert summary == "2 of 4 as they must be"
    assert done.returncode == 1
    lines = learn("dot", "--seeds", 2, "--steps", 10, "--json").stdout.splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [1, 2]


def test_svg_is_well_formed_and_the_same_each_time(tmp_path):
    pictures = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for picture in pictures:
        learn("location", "--steps", 50, "--svg", picture)
    text = pictures[0].read_text()
    assert text == pictures[1].read_text()
    assert len(text) < 20_000
    namespace = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(text)
    assert root.tag == namespace + "svg"
    assert "location-based attention" in root.find(namespace + "title").text
    assert "12 queries (rows) over 12 keys" in root.find(namespace + "desc").text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["aditive"], "heed: unknown lesson 'aditive'; did you mean 'additive'?\n"),
        (["qqqqqqqq"], "heed: unknown lesson 'qqqqqqqq'; see heed learn --list\n"),
        ([], "heed: name a lesson, or --list, or --all\n"),
        (["dot", "additive", "--svg", "x.svg"], "heed: --svg draws one lesson of one seed\n"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(arguments, message):
    done = learn(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_a_picture_that_cannot_be_written_is_said_before_the_work(tmp_path):
    done = learn("additive", "--svg", tmp_path / "missing" / "x.svg")
    assert done.returncode == 2
    assert done.stderr.startswith("heed: ") and done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["additive"], ["additive", "dot"]])
def test_ctrl_c_says_what_was_reached(arguments):
    command = [HEED, "learn", *arguments, "--steps", "10000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()  # the opening is out: the training begins
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert re.search(r"interrupted after step \d+\n$", rest)
