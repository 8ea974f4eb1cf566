"""A run directory for weights that come from elsewhere: a run that is still at its step 0."""

from pathlib import Path

from jaxtyping import PyTree

from cnn_jax.config import Config
from cnn_jax.data.normalization import Normalization
from cnn_jax.data.spec import Spec
from cnn_jax.errors import InputError, writing
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.optimizer import make_optimizer, make_schedule
from cnn_jax.training.run_directory import (
    CONFIG,
    NORMALIZATION,
    check_run,
    create_run,
    write_spec,
)
from cnn_jax.training.state import create_train_state


def write_run(
    workdir: Path, config: Config, *, spec: Spec, normalization: Normalization, variables: PyTree
) -> None:
    """Writes a run directory whose checkpoint of step 0 holds `variables`.

    It serves predicting, evaluating and everything else that takes a run's directory. Training
    goes on from there too, but with the constants of its own data.

    Raises:
      InputError: the directory holds a run already, or can't be written.
    """
    check_run(workdir, config)
    if (workdir / CONFIG).exists():
        raise InputError(f"{workdir} holds a run already; give another --workdir")
    tx = make_optimizer(config.optim, make_schedule(config.optim, 1))
    state = create_train_state(variables, tx, ema=config.train.ema_decay > 0)
    create_run(workdir, config)
    with writing(workdir, InputError):
        write_spec(workdir, spec)
        normalization.save(workdir / NORMALIZATION)
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            checkpoints.save(0, state)
