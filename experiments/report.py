"""Writes what is known of a run as figures, PNG and SVG, and as one HTML page to be read anywhere.

    python -m experiments.report --workdir=DIR[,DIR...] [--out=DIR] [--data_dir=DIR]

One run: curves, confusion matrix, scores per class, calibration, mistakes, layers, costs, origin;
into its own directory unless --out is given. Several: curves over each other, mean and confidence
interval over seeds, and the config fields that differ; --out is needed. A population is its
members. Runs may be unfinished and their data may be gone: what is missing is said. Prints one JSON
object.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cnn_jax.analysis.comparison import accuracy_spread, named_groups, write_comparison
from cnn_jax.analysis.predictions import Predictions
from cnn_jax.analysis.run_record import RunRecord, read_record
from cnn_jax.analysis.run_report import Findings, write_run_report
from cnn_jax.analysis.summary import Summary, summarize
from cnn_jax.errors import InputError, writing
from cnn_jax.training.evaluation import evaluate_state
from cnn_jax.training.network import build_network
from cnn_jax.training.pictures import predictions
from cnn_jax.training.population.directories import member_directories
from cnn_jax.training.restore import restore_run
from experiments import command_line

_WORKDIR = flags.DEFINE_list("workdir", None, "the run directories, with commas between them")
_OUT = flags.DEFINE_string("out", None, "where the report goes; default: the run directory")
_DATA_DIR = command_line.define_data_dir()


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    if not _WORKDIR.value:
        raise InputError("--workdir=DIR is missing: the directory of a run, or of several: DIR,DIR")
    if "" in _WORKDIR.value:
        raise InputError(f"--workdir={','.join(_WORKDIR.value)} has a comma too many")
    given = [Path(each) for each in _WORKDIR.value]
    if len(given) > 1 and not _OUT.value:
        raise InputError("--out=DIR is missing: where the report of several runs goes")
    out = Path(_OUT.value or given[0])
    records = [read_record(each) for each in directories(given)]
    with writing(out, InputError):
        answer = compare(records, out) if len(records) > 1 else tell(records[0], out)
    print(json.dumps(answer))


def directories(given: Sequence[Path]) -> list[Path]:
    """Returns the run directories, of a population those of its members.

    Raises:
      InputError: one comes twice, and would count twice.
    """
    found = [each for path in given for each in member_directories(path) or [path]]
    places = [each.resolve() for each in found]
    for each, place in zip(found, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"--workdir has the run {each} twice; give it once")
    return found


def compare(records: list[RunRecord], out: Path) -> dict[str, Any]:
    """Writes the report of several runs, and returns what is to be printed."""
    groups = named_groups(records)
    page, *figures = write_comparison(out, groups)
    accuracies = {name: accuracy_spread(runs) for name, runs in groups}
    return {"report": str(page), "figures": [*map(str, figures)], "test_accuracy": accuracies}


def tell(record: RunRecord, out: Path) -> dict[str, Any]:
    """Writes the report of one run, and returns what is to be printed."""
    findings = find(record)
    for text in findings.missing:
        print(text, file=sys.stderr)
    page, *figures = write_run_report(out, findings)
    return {"report": str(page), "figures": [*map(str, figures)], "missing": findings.missing}


def find(record: RunRecord) -> Findings:
    """Returns all that can be found out about a run; what can't be is said and left out."""
    missing, summary, predictions, step = [], None, None, None
    try:
        summary = _summary(record)
    except InputError as error:
        missing.append(f"The network can't be summarised: {error}")
    try:
        step, predictions = predict(record)
    except Exception as error:  # damaged checkpoints show themselves in many kinds of error
        reason = " ".join(str(error).split())
        missing.append(f"No predictions, and so no confusion matrix and no mistakes: {reason}")
    return Findings(record, summary, predictions, step, missing)


def _summary(record: RunRecord) -> Summary | None:
    config, spec = record.config, record.spec
    if spec is None:
        return None
    model = build_network(config, spec)
    return summarize(model, spec.image_shape)


def predict(record: RunRecord) -> tuple[int, Predictions]:
    """Returns the step of the state that was, or would now be, tested; and its predictions."""
    which = "best" if record.config.train.patience and record.result else "last"
    experiment, step, state = restore_run(record.workdir, which=which, data_dir=_DATA_DIR.value)
    test = experiment.dataset.test
    evaluation = evaluate_state(experiment, state, test)
    return step, predictions(experiment, test, evaluation)


if __name__ == "__main__":
    command_line.run(main)
