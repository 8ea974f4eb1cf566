"""Reports through the command line, and the page in a real browser."""

import json
import shutil

import pytest
from PIL import Image

from tests.analysis.html import Page
from tests.experiments import browser
from tests.experiments.command import contents, run_all
from tests.experiments.conftest import STEPS

PARTIAL = ["result.json", "report.html", "figures", "evaluation", "tensorboard"]


@pytest.fixture(scope="module")
def place(finished, tmp_path_factory):
    """A directory with runs in several states."""
    place = tmp_path_factory.mktemp("reports")
    ignore = shutil.ignore_patterns(*PARTIAL)
    shutil.copytree(finished[0], place / "unfinished", ignore=ignore)
    shutil.copytree(finished[0], place / "moved", ignore=shutil.ignore_patterns("tensorboard"))
    config = json.loads((place / "moved" / "config.json").read_text())
    config["data"] |= {"name": "npz", "dir": str(place / "gone.npz")}
    config["name"], config["seed"] = "moved <run>", 1
    (place / "moved" / "config.json").write_text(json.dumps(config))
    shutil.copytree(place / "unfinished", place / "begun")
    shutil.rmtree(place / "begun" / "checkpoints")
    (place / "begun" / "metrics.jsonl").unlink()
    (place / "file").touch()
    (place / "torn").mkdir()
    shutil.copy(place / "begun" / "config.json", place / "torn")
    (place / "torn" / "result.json").write_text("[1")
    return place


@pytest.fixture(scope="module")
def answers(finished, place):
    before = contents(finished[0])
    lines = [
        [f"--workdir={finished[0]}", "--out=out"],
        ["--workdir=unfinished"],
        ["--workdir=moved", "--out=out_moved"],
        ["--workdir=begun"],
        [f"--workdir={finished[0]},moved,unfinished", "--out=several"],
    ]
    answers = run_all("report", lines, cwd=place)
    assert contents(finished[0]) == before
    for answer in answers:
        assert answer.code == 0, answer.err
    return [(json.loads(answer.out), answer.err) for answer in answers]


def _page(place, answers, index):
    return Page((place / answers[index][0]["report"]).read_text(encoding="utf-8"))


def test_the_run_left_its_report_itself(finished):
    page = Page((finished[0] / "report.html").read_text(encoding="utf-8"))
    assert "lenet_digits" in page.text and "of 297; 95% interval" in page.text
    assert len(list((finished[0] / "figures").iterdir())) == 18


def test_the_command_says_the_same_as_the_run(finished, place, answers):
    said, errors = answers[0]
    assert (said["missing"], errors) == ([], "")
    left = Page((finished[0] / "report.html").read_text(encoding="utf-8"))
    now = _page(place, answers, 0)
    assert now.all("img") == left.all("img")  # the same mistakes, the same examples
    for part in ("On the test split", "How it was made"):
        assert part in now.text
    for name in said["figures"]:
        assert (place / name).stat().st_size > 1000
    with Image.open(place / "out" / "figures" / "accuracy.png") as png:
        assert png.width == 960
    same = "confusion_counts.svg"
    assert (place / "out/figures" / same).read_text() == (
        finished[0] / "figures" / same
    ).read_text()


def test_an_unfinished_run_says_so_and_is_evaluated_as_it_is(place, answers):
    page = _page(place, answers, 1)
    assert "Not finished" in page.text and f"by the state of step {STEPS}" in page.text
    assert (place / "unfinished" / "report.html").is_file()


def test_without_its_data_the_rest_is_reported(place, answers):
    (missing,) = answers[2][0]["missing"]
    assert "gone.npz" in missing and missing in answers[2][1]
    page = _page(place, answers, 2)
    assert missing in page.text and "moved <run>" in page.text
    assert "On the test split" not in page.text and "conv1" in page.text
    assert len(page.all("svg")) == 6


def test_a_run_that_has_only_begun(place, answers):
    page = _page(place, answers, 3)
    assert "no checkpoint in begun/checkpoints" in page.text and "conv1" in page.text
    assert page.all("svg") == []


def test_several_runs_are_compared(place, answers):
    said = answers[4][0]["test_accuracy"]
    assert {name: each and each["n"] for name, each in said.items()} == {
        "lenet_digits": 1,
        "moved <run>": 1,
    }
    page = _page(place, answers, 4)
    assert "Not finished, and so in curves alone: unfinished." in page.text
    assert "several datasets" in page.text and "data.name digits npz" in page.text


def test_wrong_input_is_told_in_one_line(place, answers):
    cases = {
        "--workdir=DIR is missing": [],
        "nowhere is no run directory": ["--workdir=moved,nowhere", "--out=never"],
        "--workdir=moved, has a comma too many": ["--workdir=moved,", "--out=never"],
        "the run moved twice": ["--workdir=moved,begun,moved/", "--out=never"],
        "torn/result.json is damaged": ["--workdir=torn"],
        "--out=DIR is missing": ["--workdir=moved,begun"],
        "file can't be written": ["--workdir=begun", "--out=file"],
        "'stray' is no flag": ["--workdir=begun", "stray"],
    }
    for answer, message in zip(run_all("report", [*cases.values()], cwd=place), cases, strict=True):
        assert (answer.code, answer.out) == (2, "")
        assert message in answer.err.splitlines()[-1]
        assert answer.err.splitlines()[-1].startswith("error: ")
    assert not (place / "never").exists()


@pytest.fixture
def ask(tmp_path):
    if browser.find() is None:
        pytest.skip(f"no browser: none of {', '.join(browser.NAMES)} is installed")
    return lambda page, **options: browser.ask(page, tmp_path, **options)


def test_the_browser_sees_what_is_wrong(ask, tmp_path):
    """A page with every fault that the next test looks for."""
    wrong = '<svg width="0"><text>x</text></svg><img src="data:image/png;base64,none">'
    wide = '<p style="width: 3000px">wide</p><script>console.error("oh")</script>'
    source = f"<!doctype html><head></head><body>{wrong}{wide}<img src='https://a.test/b.png'>"
    (tmp_path / "wrong.html").write_text(source)
    found, said = ask(tmp_path / "wrong.html")
    assert found["images"] == [False, False]
    assert found["figures"] == [False]
    assert found["fetched"] and found["overflow"] > 0
    assert any("oh" in line for line in said)


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)], ids=["desk", "phone"])
def test_a_browser_shows_all_of_the_page(ask, place, answers, width, dark):
    found, said = ask(place / answers[0][0]["report"], width=width, dark=dark)
    assert said == []
    assert found["images"] and all(found["images"])
    assert len(found["figures"]) == 9 and all(found["figures"])
    assert [name for name in found["fetched"] if not name.startswith("data:")] == []
    assert found["width"] == width and found["overflow"] == 0
    colors = {False: ("rgb(255, 255, 255)", "rgb(31, 35, 41)")}
    colors[True] = ("rgb(16, 20, 24)", "rgb(232, 234, 237)")
    assert found["ground"] == colors[dark][0]
    assert found["ink"] in (colors[dark][1], "rgb(107, 116, 128)", "rgb(154, 164, 176)")
