"""Runs made up for the tests of figures and reports."""

import dataclasses
from pathlib import Path

import numpy as np

from cnn_jax.analysis.predictions import Predictions
from cnn_jax.analysis.run_record import RunRecord
from cnn_jax.config import Config
from cnn_jax.data.spec import Spec, Split

RESULT = {
    "test_accuracy": 0.75,
    "test_loss": 0.5,
    "test_examples": 40,
    "steps": 30,
    "stopped_early": False,
    "parameters": 1234,
    "images_per_second": 1e4,
    "best_validation": {"step": 20, "accuracy": 0.8},
    "seconds": {"train": 3.0, "compile": 1.0, "evaluate": 0.0},
    "command": ["/somewhere/experiments/train.py", "--config=made_up"],
    "device_kind": "abacus",
    "platform": "wood",
    "devices": 2,
    "git_commit": "abc",
    "versions": {"python": "3.11"},
}


def row(step, **validation):
    columns = {"train_loss": 9 / step, "train_accuracy": step / 40, "train_grad_norm": 1.0}
    rates = {"learning_rate": 0.1, "images_per_second": 1e4}
    return {"step": step, "epoch": step / 10, **columns, **rates, **validation}


ROWS = [
    row(10, validation_loss=0.6, validation_accuracy=0.7),
    row(15),
    row(20, validation_loss=0.5, validation_accuracy=0.8),
    row(30, validation_loss=0.55, validation_accuracy=0.8),
]


def record(
    rows=ROWS, result=RESULT, names=("a", "b"), synthetic=False, workdir="made_up", **fields
):
    return RunRecord(
        workdir=Path(workdir),
        config=dataclasses.replace(Config(name="made_up"), **fields),
        rows=[dict(each) for each in rows],
        result=result,
        spec=Spec("made up", (8, 8, 1), tuple(names), synthetic),
    )


def predictions(classes, count=200, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count, dtype=np.int32)
    logits = rng.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += 2
    images = rng.integers(0, 256, (count, 8, 8, channels), dtype=np.uint8)
    return Predictions(logits, Split(images, labels))
