"""A run taken up again after training: its parts, its data and the state of a checkpoint."""

import dataclasses
from pathlib import Path

from cnn_jax.data.normalization import Normalization
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.run_directory import NORMALIZATION, single_config
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
      InputError: this is no run directory, or one without a checkpoint, or the data isn't there.
    """
    config = single_config(workdir)
    config.devices, config.parallel = 0, "jit"
    config.data.dir = data_dir or config.data.dir
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.find(which)
        experiment = dataclasses.replace(
            build_experiment(config), normalization=Normalization.load(workdir / NORMALIZATION)
        )
        return experiment, step, checkpoints.restore(step, abstract_state(experiment))
