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

from cnn_jax.analysis.augmentation import augmented
from cnn_jax.analysis.evaluation import Evaluation
from cnn_jax.analysis.figures import contact_sheet
from cnn_jax.analysis.predictions import Predictions, mistakes
from cnn_jax.data.augment import each_alone
from cnn_jax.data.datasets import Split
from cnn_jax.data.order import epoch_order
from cnn_jax.training.optimizer import path_name
from cnn_jax.training.setup import Experiment
from cnn_jax.training.state import TrainState
from cnn_jax.training.writers import Writers

_IMAGES, _DRAWS, _VALUES = 16, 3, 10_000


class Pictures:
    """Writes to TensorBoard an augmented batch, mistakes, and how parameters lie and change.

    Args:
      experiment: the run's fixed parts.
      state: that the run begins or goes on with; its changes are counted from there.
      writers: where the pictures go.
    """

    def __init__(self, experiment: Experiment, state: TrainState, writers: Writers):
        self._experiment, self._writers = experiment, writers
        self._before = sampled(state.params)
        if not int(state.step):
            writers.image("training_images", _augmented_sheet(experiment), 0)

    def write(self, step: int, state: TrainState, evaluation: Evaluation | None) -> None:
        """Writes the pictures of one step, with its evaluation of the validation split if any."""
        values = sampled(state.params)
        for name, now in values.items():
            self._writers.histogram(f"parameters/{name}", now, step)
            self._writers.histogram(f"changes/{name}", now - self._before[name], step)
        self._before = values
        if evaluation is not None:
            sheet = _mistakes_sheet(self._experiment, evaluation)
            if sheet is not None:
                self._writers.image("validation_mistakes", sheet, step)


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
        drawn = augmented(config.data.augment, images, labels, seed=config.seed, draws=_DRAWS)
        rows += [("", draw) for draw in drawn]
    return contact_sheet(rows)


def _mistakes_sheet(experiment: Experiment, evaluation: Evaluation) -> np.ndarray | None:
    split = experiment.dataset.validation
    wrong = mistakes(evaluation.logits, split.labels, most=_IMAGES)
    if not len(wrong):
        return None
    shown = Predictions(evaluation.logits, split.labels, split.images).shown(wrong)
    names = experiment.dataset.spec.class_names
    captions = [f"{names[e.predicted]} {e.confidence:.0%}, is {names[e.label]}" for e in shown]
    return contact_sheet([(text, e.image[None]) for text, e in zip(captions, shown, strict=True)])


def leave_report(
    workdir: Path,
    experiment: Experiment,
    *,
    result: dict[str, Any],
    evaluation: Evaluation,
    step: int,
    say: Callable[[str], None],
) -> None:
    """Writes figures and report of a finished run; where that fails it says so, no more.

    Args:
      workdir: the run directory.
      experiment: the run's fixed parts.
      result: what `result.json` is going to hold.
      evaluation: that of the test split.
      step: of the state evaluated.
      say: tells the user a line.
    """
    try:
        # Imported here: matplotlib takes half a second, and only a finished run needs it.
        from cnn_jax.analysis.run_record import read_record
        from cnn_jax.analysis.run_report import Findings, write_run_report
        from cnn_jax.analysis.summary import summarize

        test: Split = experiment.dataset.test
        findings = Findings(
            dataclasses.replace(read_record(workdir), result=result),
            summarize(experiment.model, experiment.dataset.spec.image_shape),
            Predictions(evaluation.logits, test.labels, test.images),
            step,
        )
        write_run_report(workdir, findings)
    except Exception as error:  # whatever it is, the run is done
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        say(f"no report, all else is there; experiments.report can try again. {reason}")
