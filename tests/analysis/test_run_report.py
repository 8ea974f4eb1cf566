"""The report of one run: what is known stands there, what is missing is said."""

import dataclasses
import json
import os

import numpy as np
import pytest
from scipy.stats import binomtest

from cnn_jax.analysis.class_scores import per_label
from cnn_jax.analysis.predictions import Predictions
from cnn_jax.analysis.run_record import read_record
from cnn_jax.analysis.run_report import Findings, wilson_interval, write_run_report
from cnn_jax.analysis.summary import summarize
from cnn_jax.config import Config, Train, to_json
from cnn_jax.data.spec import Split
from cnn_jax.errors import InputError
from cnn_jax.models.registry import build_model
from tests.analysis.html import Page
from tests.analysis.records import RESULT, ROWS, predictions, record, row

ODD_NAMES = ["猫", "قطة", "<script>alert(1)</script>", "x" * 300, '"&amp;"']


def _told(directory, findings):
    written = write_run_report(directory, findings)
    assert all(path.is_file() for path in written)
    assert {path.name for path in written[1:]} == {
        p.name for p in (directory / "figures").iterdir()
    }
    return Page(written[0].read_text(encoding="utf-8")), {path.stem for path in written[1:]}


def test_a_whole_report(tmp_path):
    summary = summarize(build_model("lenet", 5), (28, 28, 1))
    findings = Findings(record(names=ODD_NAMES), summary, predictions(5), 20)
    page, figures = _told(tmp_path, findings)
    assert figures == {
        "accuracy", "loss", "learning_rate", "train_grad_norm", "images_per_second", "time",
        "confusion_counts", "confusion_rates", "calibration",
    }  # fmt: skip
    assert len(page.all("svg")) == len(figures)
    assert page.all("script") == []
    for part in [
        *ODD_NAMES, "75.00%", "30 of 40; 95% interval 59.8% to 85.8%", "80.00%", "epoch 2, step 20",
        "python -m experiments.train --config=made_up", "2 × abacus (wood)", "git commit abc",
        "conv1", "by the state of step 20", "precision", "ECE", "4.0 s",
    ]:  # fmt: skip
        assert part in page.text, part
    assert len([each for each in page.all("p") if each.get("class") == "notice"]) == 0
    mistakes = sum("in truth" in each["alt"] for each in page.all("img"))
    assert 24 <= mistakes < len(page.all("img")) == 48


def test_a_run_that_has_only_begun(tmp_path):
    unbegun = dataclasses.replace(record(rows=[], result=None), spec=None)
    page, figures = _told(tmp_path, Findings(unbegun, missing=["No predictions: <no data>"]))
    assert figures == set()
    assert "Not finished: the run has no result yet; its last row is of step 0." in page.text
    assert "No predictions: <no data>" in page.text
    assert "made_up" in page.text


def test_one_row_without_validation(tmp_path):
    page, figures = _told(tmp_path, Findings(record(rows=[row(10)], result=None)))
    assert {"loss", "accuracy"} <= figures and "time" not in figures
    assert "No validation so far" in page.text
    assert "its last row is of step 10" in page.text


def test_what_is_special_is_said(tmp_path):
    special = {
        "stopped_early": True,
        "skipped_steps": 2,
        "skipped_examples": ["a", "b"],
        "resumed_from_step": 15,
        "best_validation": None,
        "command": ["train", os.fsdecode(b"no text \xff")],
    }
    run = record([row(10)], RESULT | special, synthetic=True, train=Train(patience=3))
    page, _ = _told(tmp_path, Findings(run))
    for said in [
        "Stopped early at step 30: 3 evaluations without improvement",
        "2 steps were skipped",
        "2 image files could not be read",
        "Resumed at step 15",
        "Synthetic data: the images are made up",
        "No validation split",
        r"no text \udcff",
    ]:
        assert said in page.text


@pytest.mark.parametrize(
    ("why", "said"),
    [("halving", "Ended by halving"), ("diverged", "Diverged and frozen")],
)
def test_a_member_that_its_population_ended_says_so(tmp_path, why, said):
    """Its last row may be of an earlier step; an epoch is ten steps."""
    run = record(ROWS[:1], RESULT | {"ended": why, "steps": 12}, train=Train(epochs=5))
    page, _ = _told(tmp_path, Findings(run))
    assert f"{said} at step 12 of 50: no mean over its population counts it." in page.text
    assert "steps 12 1.2 epochs" in page.text


def test_how_to_make_a_run_again(tmp_path):
    run = record([], workdir=tmp_path / "my run")
    page, _ = _told(tmp_path, Findings(run))
    assert "from the directory where it was started" in page.text
    assert f"--config={tmp_path}/my run/config.json' --workdir=NEW_DIRECTORY" in page.text
    page, _ = _told(tmp_path, Findings(record([], study="distill")))
    assert "NEW_DIRECTORY" not in page.text and "--config=made_up" in page.text


@pytest.mark.parametrize(
    ("flops", "said"), [(30_974_000_000, "30,974"), (999_960_000, "1,000"), (31_416_000, "31.42")]
)
def test_large_numbers_of_flops_are_whole(tmp_path, flops, said):
    summary = summarize(build_model("lenet", 5), (28, 28, 1))
    one = dataclasses.replace(summary.rows[0], flops=flops)
    page, _ = _told(tmp_path, Findings(record([]), dataclasses.replace(summary, rows=(one,))))
    assert f" {said} MFLOPs an image" in page.text


def test_many_classes_are_folded_away(tmp_path):
    names = [f"class {i}" for i in range(1000)]
    page, _ = _told(tmp_path, Findings(record([], names=names), None, predictions(1000), 20))
    assert "All 1000 classes" in page.text and "class 999" in page.text
    assert "The 29 classes of the commonest mistakes; the others are added up." in page.text
    assert len(page.all("details")) == 2


def test_a_perfect_network_has_no_mistakes(tmp_path):
    said = predictions(2)
    labels = said.logits.argmax(axis=1).astype(np.int32)
    perfect = dataclasses.replace(said, split=Split(said.split.images, labels))
    page, _ = _told(tmp_path, Findings(record([]), None, perfect, 20))
    assert "mistakes" not in page.text and "confused" not in page.text
    assert len(page.all("img")) == 24


def test_images_of_several_classes_have_scores_and_no_confusion(tmp_path):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 3)), rng.integers(0, 2, (50, 3)).astype(np.uint8)
    said = Predictions(logits, Split(np.zeros((50, 8, 8, 1), np.uint8), labels))
    run = record([], RESULT | {"test_label_accuracy": 0.9}, names="abc")
    page, figures = _told(tmp_path, Findings(run, None, said, 20))
    whole = "every label right: 30 of 40; 95% interval 59.8% to 85.8%; single labels 90.0%"
    assert whole in page.text
    assert "calibration" in figures and "confusion_counts" not in figures
    scores = per_label(logits, labels)
    assert f"0 a {labels[:, 0].sum()} {scores['precision'][0]:.1%}" in page.text
    assert page.all("img") == []


def test_of_many_classes_the_five_best_are_told_too(tmp_path):
    run = record([], RESULT | {"test_top5_accuracy": 0.975})
    page, _ = _told(tmp_path, Findings(run, None, None, None))
    assert "95% interval 59.8% to 85.8%; among the five best 97.5%" in page.text


@pytest.mark.parametrize(("right", "count"), [(0, 5), (5, 5), (294, 297), (7310, 10_000)])
def test_the_interval_is_scipys(right, count):
    expected = binomtest(right, count).proportion_ci(method="wilson")
    assert wilson_interval(right, count) == pytest.approx(tuple(expected), abs=1e-6)


def test_a_record_is_read_from_its_directory(tmp_path):
    (tmp_path / "config.json").write_text(to_json(Config(seed=3)))
    begun = read_record(tmp_path)
    assert (begun.config.seed, begun.rows, begun.result, begun.best) == (3, [], None, None)
    lines = "".join(json.dumps(each) + "\n" for each in ROWS)
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 31, "epo')
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    finished = read_record(tmp_path)
    assert [each["step"] for each in finished.rows] == [10, 15, 20, 30]
    assert finished.best["step"] == 20


def test_damaged_files_of_a_run(tmp_path):
    (tmp_path / "config.json").write_text(to_json(Config()))
    (tmp_path / "metrics.jsonl").write_text('{}\n3\n{"step": 1}\n{"step": 2, "epoch": 1}\n')
    assert [each["step"] for each in read_record(tmp_path).rows] == [2]
    for name in "dataset.json", "result.json":
        (tmp_path / name).write_text("{}" if name == "dataset.json" else "[1")
        with pytest.raises(InputError, match=rf"{name} is .*damaged"):
            read_record(tmp_path)
        (tmp_path / name).unlink()


def test_the_best_row_is_by_what_the_run_monitors():
    by_loss = record(result=None, train=Train(monitor="loss"))
    assert by_loss.best["step"] == 20
    by_loss.rows[0]["validation_loss"] = 0.1
    assert by_loss.best["step"] == 10


def test_the_best_row_is_the_one_the_result_names():
    """With train.min_change a higher accuracy need not be an improvement."""
    named = RESULT | {"best_validation": {"step": 10, "accuracy": 0.7}}
    assert record(result=named).best["step"] == 10
    assert record(result=None).best["step"] == 20
