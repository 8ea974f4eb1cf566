import csv
import json
import shutil

import numpy as np
import pytest

from cnn_jax.training.run_directory import read_json
from tests.experiments.command import contents, run_all

SPLITS = {"test": 297, "validation": 150, "train": 1350}


@pytest.fixture(scope="module")
def answers(finished):
    workdir, _ = finished
    before = contents(workdir)
    of = {"validation": "best"}
    lines = [
        [f"--workdir={workdir}", f"--split={split}", f"--checkpoint={of.get(split, 'last')}"]
        for split in SPLITS
    ]
    answers = run_all("evaluate", lines, cwd=workdir.parent)
    after = contents(workdir)
    changed = {path for path, what in before.items() if after[path] != what} - {workdir}
    return answers, changed, set(after) - set(before)


def _said(answers, index):
    answer = answers[0][index]
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) == 1
    return json.loads(answer.out)


def test_the_test_metrics_are_those_of_the_result(answers, finished):
    said, result = _said(answers, 0), read_json(finished[0] / "result.json")
    for name in ("test_accuracy", "test_loss", "test_examples"):
        assert said[name] == pytest.approx(result[name], rel=1e-6)
    assert (said["step"], said["checkpoint"]) == (result["steps"], "last")


@pytest.mark.parametrize(("index", "split"), [*enumerate(SPLITS)])
def test_every_split_has_all_its_examples(answers, index, split):
    assert _said(answers, index)[f"{split}_examples"] == SPLITS[split]


def test_the_best_checkpoint_is_that_of_the_result(answers, finished):
    said, best = _said(answers, 1), read_json(finished[0] / "result.json")["best_validation"]
    assert (said["checkpoint"], said["step"]) == ("best", best["step"])
    assert said["validation_accuracy"] == best["accuracy"]


def test_tables_agree_with_the_metrics(answers, finished):
    said, directory = _said(answers, 0), finished[0] / "evaluation"
    with open(directory / "test_confusion.csv", newline="") as file:
        header, *rows = csv.reader(file)
    matrix = np.array([[int(cell) for cell in row[1:]] for row in rows])
    assert header[1:] == [row[0] for row in rows] == [str(i) for i in range(10)]
    assert matrix.sum() == 297
    assert np.trace(matrix) / 297 == said["test_accuracy"]
    with open(directory / "test_per_class.csv", newline="") as file:
        _, *rows = csv.reader(file)
    np.testing.assert_array_equal([int(row[1]) for row in rows], matrix.sum(axis=1))


def test_nothing_else_is_written(answers, finished):
    _, changed, new = answers
    assert changed == set()
    assert {path.relative_to(finished[0]).parts[0] for path in new} == {"evaluation"}


def test_tables_that_cannot_be_written_are_told_in_one_line(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    (tmp_path / "run" / "evaluation").touch()
    (answer,) = run_all("evaluate", [["--workdir=run"]], cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: run/evaluation can't be written: File exists\n"
