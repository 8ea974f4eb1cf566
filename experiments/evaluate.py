"""Evaluates a run's checkpoint exactly: every example of a split counts once.

    python -m experiments.evaluate --workdir=DIR [--split=test] [--checkpoint=last]

Prints one JSON object; writes the confusion matrix and a table per class into DIR/evaluation.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags

from cnn_jax.analysis.evaluation import confusion_matrix, evaluate
from cnn_jax.analysis.tables import write_confusion_matrix, write_per_class
from cnn_jax.data.normalization import Normalization
from cnn_jax.errors import InputError
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.run_directory import NORMALIZATION, read_config
from cnn_jax.training.setup import (
    Experiment,
    abstract_state,
    build_experiment,
    eval_batches,
    sharded_eval_step,
)
from cnn_jax.training.state import TrainState, model_variables
from experiments import command_line

_WORKDIR = flags.DEFINE_string("workdir", None, "the run directory")
_SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation", "train"], "which examples")
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "best by validation")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where the data lies now, if it has moved")


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    if _WORKDIR.value is None:
        raise InputError("--workdir=DIR is missing: the directory of a run")
    workdir = Path(_WORKDIR.value)
    experiment, step, state = _restore(workdir)
    split = getattr(experiment.dataset, _SPLIT.value)
    if split is None:
        raise InputError("the run has no validation split: data.validation_fraction is 0")
    evaluation = evaluate(
        jax.jit(sharded_eval_step(experiment)),
        model_variables(state),
        eval_batches(experiment, split),
        examples=len(split),
    )
    matrix = confusion_matrix(evaluation.logits, split.labels)
    _write_tables(workdir / "evaluation", matrix, experiment.dataset.spec.class_names)
    metrics = {f"{_SPLIT.value}_{name}": value for name, value in evaluation.metrics.items()}
    facts = {"workdir": str(workdir), "checkpoint": _CHECKPOINT.value, "step": step}
    print(json.dumps(facts | metrics | {f"{_SPLIT.value}_examples": evaluation.examples}))


def _restore(workdir: Path) -> tuple[Experiment, int, TrainState]:
    """Returns the run with the constants it was trained with, and the chosen checkpoint."""
    config = read_config(workdir)
    config.devices, config.parallel = 0, "jit"
    config.data.dir = _DATA_DIR.value or config.data.dir
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.find(_CHECKPOINT.value)
        experiment = dataclasses.replace(
            build_experiment(config), normalization=Normalization.load(workdir / NORMALIZATION)
        )
        return experiment, step, checkpoints.restore(step, abstract_state(experiment))


def _write_tables(directory: Path, matrix: np.ndarray, class_names: Sequence[str]) -> None:
    try:
        directory.mkdir(exist_ok=True)
        write_confusion_matrix(directory / f"{_SPLIT.value}_confusion.csv", matrix, class_names)
        write_per_class(directory / f"{_SPLIT.value}_per_class.csv", matrix, class_names)
    except OSError as error:
        raise InputError(f"{directory} can't be written: {error.strerror or error}") from error


if __name__ == "__main__":
    command_line.run(main)
