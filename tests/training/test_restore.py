import jax
import numpy as np
import pytest

from cnn_jax.errors import InputError
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.restore import restore_run
from tests.training.tiny import saved_state, tiny_config

pytestmark = pytest.mark.usefixtures("optax_promotes")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, optax_promotes):
    workdir = tmp_path_factory.mktemp("run")
    train_and_evaluate(tiny_config(), workdir)
    return workdir


def test_state_and_constants_are_the_runs(workdir):
    experiment, step, state = restore_run(workdir)
    _, saved = saved_state(workdir, tiny_config())
    assert step == int(state.step) == 12
    assert experiment.mesh.size == jax.device_count()
    jax.tree.map(np.testing.assert_array_equal, state, saved)
    with np.load(workdir / "normalization.npz") as constants:
        np.testing.assert_array_equal(experiment.normalization.mean, constants["mean"])


def test_the_best_checkpoint_is_its_own(workdir):
    _, step, state = restore_run(workdir, which="best")
    best_step, saved = saved_state(workdir, tiny_config(), "best")
    assert step == best_step == int(state.step)
    jax.tree.map(np.testing.assert_array_equal, state.params, saved.params)


def test_what_is_no_run_is_told(tmp_path):
    with pytest.raises(InputError, match="is no run directory"):
        restore_run(tmp_path)
