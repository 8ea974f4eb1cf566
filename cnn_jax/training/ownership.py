"""A run directory that belongs to one process, one config and the data the run began with."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cnn_jax.data.normalization import Normalization
from cnn_jax.data.spec import Spec
from cnn_jax.errors import InputError, writing
from cnn_jax.training.run_directory import (
    NORMALIZATION,
    check_run,
    create_run,
    locked,
    read_spec,
    write_spec,
)
from cnn_jax.training.setup import Experiment


@contextlib.contextmanager
def own_directory(workdir: Path, experiment: Experiment) -> Iterator[None]:
    """Makes the run directory, writes what the run starts with, and holds it for this process.

    Raises:
      InputError: it is another process's, of another run, or of other data; nothing was changed.
    """
    spec, normalization = experiment.dataset.spec, experiment.normalization
    with locked(workdir):
        check_run(workdir, experiment.config)  # behind the lock: none begins there any more
        check_same_data(workdir, spec, normalization)
        create_run(workdir, experiment.config)
        with writing(workdir):
            write_spec(workdir, spec)
            normalization.save(workdir / NORMALIZATION)
        yield


def check_same_data(workdir: Path, spec: Spec, normalization: Normalization) -> None:
    """Raises InputError if the run in `workdir` has taken steps on other data.

    What is compared are the facts and the constants of the training images, not the images. Where
    the run's own are missing or damaged there is nothing to compare, and they are written anew.
    """
    names = [path.name for path in (workdir / "checkpoints").glob("*")]
    if not any(name.isdigit() and int(name) for name in names):
        return
    try:
        known, constants = read_spec(workdir), Normalization.load(workdir / NORMALIZATION)
    except InputError:
        return
    if known != spec or not _alike(constants, normalization):
        raise InputError(
            f"the training images are no longer those that the run in {workdir} began with; bring "
            "them back, or give another --workdir"
        )


def _alike(one: Normalization, other: Normalization) -> bool:
    pairs = ((one.mean, other.mean), (one.std, other.std))
    return one.kind == other.kind and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs
    )
