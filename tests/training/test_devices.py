"""One device and eight virtual ones give the same run."""

import jax
import numpy as np
import pytest

from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.writers import read_rows
from experiments import configs
from tests.training.tiny import saved_state, tiny_config

pytestmark = pytest.mark.usefixtures("optax_promotes")


def _lenet_digits():
    config = configs.load("lenet_digits")
    config.train.epochs, config.train.steps = None, 6
    config.train.log_every = config.train.eval_every = 3
    config.train.checkpoint_every = 3
    return config


def _assert_close(a, b):
    """Arrays as a whole: Adam's quotients make much of the rounding of single small gradients."""
    assert np.linalg.norm(b - a) <= 1e-5 * np.linalg.norm(a)


@pytest.mark.parametrize(
    "make_config", [tiny_config, _lenet_digits], ids=["batch norm, dropout, sgd", "lenet_digits"]
)
def test_one_device_and_eight_give_the_same_run(make_config, tmp_path):
    runs = []
    for devices in (1, 8):
        config, workdir = make_config(), tmp_path / str(devices)
        config.devices = devices
        result = train_and_evaluate(config, workdir)
        assert result["devices"] == devices
        _, state = saved_state(workdir, config)
        runs.append((result, read_rows(workdir / "metrics.jsonl"), jax.device_get(state)))
    (result, rows, state), (other_result, other_rows, other_state) = runs
    jax.tree.map(
        _assert_close,
        (state.params, state.batch_stats),
        (other_state.params, other_state.batch_stats),
    )
    for row, other in zip(rows, other_rows, strict=True):
        assert row.keys() == other.keys()
        for name in row.keys() - {"images_per_second"}:
            np.testing.assert_allclose(other[name], row[name], rtol=1e-5, err_msg=name)
    for name in ("test_loss", "test_accuracy", "test_examples"):
        np.testing.assert_allclose(other_result[name], result[name], rtol=1e-5)
