"""What a run shows of itself: images and histograms for TensorBoard, at its end a report.

None of it is on the path of a step, and none of it can end a run.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PyTree

from cnn_jax.analysis.augmentation import augmented, file_crops, first_classes
from cnn_jax.analysis.figures import contact_sheet
from cnn_jax.analysis.predictions import Predictions
from cnn_jax.data.augment import each_alone
from cnn_jax.data.order import epoch_order
from cnn_jax.data.spec import Split
from cnn_jax.training.clock import Clock
from cnn_jax.training.evaluation import Evaluation
from cnn_jax.training.objective import sigmoid_each
from cnn_jax.training.parameter_paths import path_name
from cnn_jax.training.setup import Experiment
from cnn_jax.training.state import TrainState
from cnn_jax.training.writers import Writers

_IMAGES, _DRAWS, _VALUES = 16, 3, 10_000


class Pictures:
    """Writes to TensorBoard an augmented batch, mistakes, and how parameters lie and change.

    It does nothing where `train.pictures` is off, and in all processes but one.

    Args:
      experiment: the run's fixed parts.
      state: that the run begins or goes on with; its changes are counted from there.
      writers: where the pictures go.
      clock: counts the time as stage "figures".
    """

    def __init__(self, experiment: Experiment, state: PyTree, writers: Writers, clock: Clock):
        self._experiment, self._writers, self._clock = experiment, writers, clock
        self._on = _wanted(experiment)
        if self._on:
            with clock.stage("figures"):
                self._before = sampled(state.params)
                self._batch_is_due = not int(state.step)

    def write_batch(self) -> None:
        """Writes the augmented batch of a run from its start on, once."""
        if self._on and self._batch_is_due:
            with self._clock.stage("figures"):
                sheet = _augmented_sheet(self._experiment)
                self._writers.image("training_images", sheet, 0)
            self._batch_is_due = False

    def write(self, step: int, state: TrainState, evaluation: Evaluation) -> None:
        """Writes the pictures of one step, with its evaluation of the validation split."""
        if not self._on:
            return
        with self._clock.stage("figures"):
            values = sampled(state.params)
            for name, now in values.items():
                self._writers.histogram(f"parameters/{name}", now, step)
                self._writers.histogram(f"changes/{name}", now - self._before[name], step)
            self._before = values
            sheet = _mistakes_sheet(self._experiment, evaluation)
            if sheet is not None:
                self._writers.image("validation_mistakes", sheet, step)


def _wanted(experiment: Experiment) -> bool:
    return experiment.config.train.pictures and jax.process_index() == 0


def sampled(params: PyTree) -> dict[str, Float[np.ndarray, " values"]]:
    """Returns {path: its values} of all parameters; of large ones evenly spaced values."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(params))
    return {
        # A copy: on a CPU the leaf may be the device's own memory, which the next step reuses.
        path_name(path): np.array(leaf.reshape(-1)[:: 1 + leaf.size // _VALUES], np.float32)
        for path, leaf in leaves
    }


def _augmented_sheet(experiment: Experiment) -> np.ndarray:
    """Returns the first images that training meets, each above several of its augmented forms."""
    config, train = experiment.config, experiment.dataset.train
    first = epoch_order(config.seed, 0, len(train))[:_IMAGES]
    images, labels = train.images[first], train.labels[first]
    rows = [("", images)]
    if each_alone(config.data.augment):
        drawing = {"seed": config.seed, "draws": _DRAWS}
        crops = file_crops(config.data, train.images, first, **drawing)
        classes = first_classes(labels)
        drawn = augmented(config.data.augment, images, classes, crops=crops, **drawing)
        rows += [("", draw) for draw in drawn]
    return contact_sheet(rows)


def predictions(experiment: Experiment, split: Split, evaluation: Evaluation) -> Predictions:
    """Returns the predictions that an evaluation of a split amounts to."""
    sigmoids = sigmoid_each(experiment.config.train, experiment.dataset.spec)
    return Predictions(evaluation.logits, split, sigmoids)


def _mistakes_sheet(experiment: Experiment, evaluation: Evaluation) -> np.ndarray | None:
    dataset = experiment.dataset
    said = predictions(experiment, dataset.validation, evaluation)
    wrong = [] if said.multi_label else said.mistakes(_IMAGES)
    if not len(wrong):
        return None
    names = dataset.spec.class_names
    rows = [
        (f"{names[e.predicted]} {e.confidence:.0%}, is {names[e.label]}", e.image[None])
        for e in said.shown(wrong)
    ]
    return contact_sheet(rows)


def reported(
    result: dict[str, Any],
    workdir: Path,
    experiment: Experiment,
    *,
    test: Evaluation,
    step: int,
    clock: Clock,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Returns a finished run's result, having written its figures and report if they are wanted.

    Where that fails it says so, no more. The time it took is added to the result's `seconds`.

    Args:
      result: what `result.json` is going to hold.
      workdir: the run directory.
      experiment: the run's fixed parts.
      test: the evaluation of the test split.
      step: of the state evaluated.
      clock: counts the time as stage "figures".
      say: tells the user a line.
    """
    if not _wanted(experiment):
        return result
    with clock.stage("figures"):
        try:
            _write_report(result, workdir, experiment, test, step)
        except Exception as error:  # whatever it is, the run is done
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            say(f"no report, all else is there; experiments.report can try again. {reason}")
    return result | {"seconds": clock.seconds()}


def _write_report(
    result: dict[str, Any], workdir: Path, experiment: Experiment, test: Evaluation, step: int
) -> None:
    # Imported here: matplotlib takes half a second, and only a finished run needs it.
    from cnn_jax.analysis.run_record import read_record
    from cnn_jax.analysis.run_report import Findings, write_run_report
    from cnn_jax.analysis.summary import summarize

    findings = Findings(
        dataclasses.replace(read_record(workdir), result=result),
        summarize(experiment.model, experiment.dataset.spec.image_shape),
        predictions(experiment, experiment.dataset.test, test),
        step,
    )
    write_run_report(workdir, findings)
