"""Evaluates a run's checkpoint exactly: every example of a split counts once.

    python -m experiments.evaluate --workdir=DIR [--split=test] [--checkpoint=last] [--member=N]

Prints one JSON object; writes the confusion matrix and a table per class into DIR/evaluation;
where images have several labels each, the table alone. Views of each image (`data.test_mirror`,
`data.test_shift`) are averaged on every split. Of a population it evaluates the member chosen, or
else all; each has a directory of its own. The means, of every accuracy, are over those that went to
their end, as in the population's result.json.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from cnn_jax.analysis.class_scores import confusion_matrix, per_class, per_label
from cnn_jax.analysis.tables import write_confusion_matrix, write_per_class
from cnn_jax.data.sources.quiet import say
from cnn_jax.data.spec import Labels, Spec
from cnn_jax.errors import InputError, writing
from cnn_jax.training.evaluation import evaluate_state
from cnn_jax.training.population.directories import find_member, member_directories
from cnn_jax.training.population.standing import cut_short
from cnn_jax.training.restore import restore_run
from cnn_jax.training.run_directory import RESULT, read_json
from cnn_jax.whole_files import strict
from experiments import command_line

_WORKDIR = command_line.define_workdir()
_SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation", "train"], "which examples")
_CHECKPOINT = command_line.define_checkpoint()
_MEMBER = flags.DEFINE_integer("member", None, "of a population; default: all", lower_bound=0)
_DATA_DIR = command_line.define_data_dir()


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    workdir = command_line.read_workdir(_WORKDIR)
    if _MEMBER.value is not None:
        workdir = find_member(workdir, _MEMBER.value)
    members = member_directories(workdir)
    if not members:
        print(json.dumps(strict(_evaluate(workdir))))
        return
    results = [_evaluate(member) for member in members]
    ended = [cut_short(read_json(member / RESULT) or {}) for member in members]
    counted = [each for each, early in zip(results, ended, strict=True) if not early]
    accuracies = [name for name in results[0] if name.endswith("accuracy")]
    means = {
        name: statistics.fmean(each[name] for each in counted) if counted else None
        for name in accuracies
    }
    if any(ended):
        names = ", ".join(each.name for each, early in zip(members, ended, strict=True) if early)
        say(f"not in the means, as the population ended them before their time: members {names}")
    print(json.dumps(strict({"workdir": str(workdir), **means, "members": results})))


def _evaluate(workdir: Path) -> dict[str, Any]:
    """Returns the metrics of a run; writes its tables."""
    experiment, step, state = restore_run(
        workdir, which=_CHECKPOINT.value, data_dir=_DATA_DIR.value
    )
    split = getattr(experiment.dataset, _SPLIT.value)
    if split is None:
        raise InputError("the run has no validation split: data.validation_fraction is 0")
    evaluation = evaluate_state(experiment, state, split)
    _write_tables(workdir / "evaluation", evaluation.logits, split.labels, experiment.dataset.spec)
    metrics = {f"{_SPLIT.value}_{name}": value for name, value in evaluation.metrics.items()}
    facts = {"workdir": str(workdir), "checkpoint": _CHECKPOINT.value, "step": step}
    return facts | metrics | {f"{_SPLIT.value}_examples": evaluation.examples}


def _write_tables(directory: Path, logits: np.ndarray, labels: Labels, spec: Spec) -> None:
    names = spec.class_names
    with writing(directory, InputError):
        directory.mkdir(exist_ok=True)
        if spec.multi_label:
            examples, scores = labels.sum(axis=0, dtype=np.int64), per_label(logits, labels)
        else:
            matrix = confusion_matrix(logits, labels)
            write_confusion_matrix(directory / f"{_SPLIT.value}_confusion.csv", matrix, names)
            examples, scores = matrix.sum(axis=1), per_class(matrix)
        write_per_class(directory / f"{_SPLIT.value}_per_class.csv", examples, scores, names)


if __name__ == "__main__":
    command_line.run(main)
