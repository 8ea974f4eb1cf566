"""Several labels an image, through the real command line."""

import csv
import json

import numpy as np

from tests.experiments.command import run_all


def test_several_labels_are_trained_and_evaluated(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 8, 8), np.uint8), rng.integers(0, 2, (60, 3))
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    arguments = [
        "--config=lenet_digits",
        "--config.data.name=npz",
        "--config.data.dir=mine.npz",
        "--config.data.batch_size=16",
        "--config.train.steps=2",
        "--workdir=run",
    ]
    wrong, right = run_all("train", [arguments, [*arguments, "--config.train.loss=binary"]],
                           cwd=tmp_path)  # fmt: skip
    assert wrong.code == 2 and "set --config.train.loss=binary" in wrong.err
    assert right.code == 0, right.err
    (answer,) = run_all("evaluate", [["--workdir=run"]], cwd=tmp_path)
    said = json.loads(answer.out)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert said["test_label_accuracy"] == result["test_label_accuracy"] >= said["test_accuracy"]
    evaluation = tmp_path / "run" / "evaluation"
    assert [path.name for path in evaluation.iterdir()] == ["test_per_class.csv"]
    with open(evaluation / "test_per_class.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["class", "examples", "precision", "recall", "f1"]
    assert len(rows) == 3 and sum(int(row[1]) for row in rows) <= 3 * 12
