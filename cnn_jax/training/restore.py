"""A run taken up again after training: its parts, its data and the state of a checkpoint."""

import dataclasses
from itertools import zip_longest
from pathlib import Path

from cnn_jax.data.normalization import Normalization
from cnn_jax.data.spec import Spec
from cnn_jax.errors import InputError
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.run_directory import DATASET, NORMALIZATION, read_spec, single_config
from cnn_jax.training.setup import Experiment, abstract_state, build_experiment
from cnn_jax.training.state import TrainState


def restore_run(
    workdir: Path, *, which: str = "last", data_dir: str | None = None
) -> tuple[Experiment, int, TrainState]:
    """Returns a run with the constants it was trained with, a checkpoint's step, and its state.

    Reads the data; writes nothing. All devices there are take part.

    Args:
      workdir: the run directory.
      which: "last", or "best" by validation accuracy; without a best one the last.
      data_dir: where the data lies now, if it has moved; takes the place of `data.dir`.

    Raises:
      InputError: this is no run directory, or one without a checkpoint, or the data isn't there or
        of other classes.
    """
    config = single_config(workdir)
    config.devices, config.parallel = 0, "jit"
    config.data.dir = data_dir or config.data.dir
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.find(which)
        experiment = build_experiment(config)
        shape = experiment.dataset.spec.image_shape
        constants = Normalization.load(workdir / NORMALIZATION, shape)
        experiment = dataclasses.replace(experiment, normalization=constants)
        if (workdir / DATASET).is_file():
            check_classes(experiment.dataset.spec, read_spec(workdir))
        return experiment, step, checkpoints.restore(step, abstract_state(experiment))


def check_classes(data: Spec, run: Spec) -> None:
    """Raises InputError unless the data has the classes of the run."""
    pairs = zip_longest(data.class_names, run.class_names)
    for number, (found, known) in enumerate(pairs):
        if found != known:
            raise InputError(
                f"class {number} of the data is {found or 'missing'}, but {known or 'missing'} in "
                f"the run; give the data of the run's own classes"
            )
