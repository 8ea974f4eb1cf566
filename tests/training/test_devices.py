"""One device and eight virtual ones give the same run, by jit and by pmap, and in the middle."""

import copy

import jax
import numpy as np
import pytest

from cnn_jax.config import Augment
from cnn_jax.metric_rows import read_rows
from cnn_jax.training.loop import train_and_evaluate
from experiments import configs
from tests.training.interrupted import interrupted, sigterm
from tests.training.tiny import saved_state, tiny_config

pytestmark = pytest.mark.usefixtures("optax_promotes")


def _lenet_digits():
    config = configs.load("lenet_digits")
    config.train.epochs, config.train.steps = None, 6
    config.train.log_every = config.train.eval_every = 3
    config.train.checkpoint_every = 3
    config.train.pictures = False
    return config


def _assert_close(a, b):
    """Arrays as a whole: Adam's quotients make much of the rounding of single small gradients."""
    assert np.linalg.norm(b - a) <= 1e-5 * np.linalg.norm(a)


def _without_randomness(**fields):
    """pmap draws on each device by itself, so only what draws nothing is the same run."""
    config = tiny_config(steps=6, eval_every=2, checkpoint_every=2, **fields)
    config.data.augment, config.model.dropout = Augment(), 0.0
    return config


def _train(config, workdir, *, devices, parallel="jit", until=None):
    """Returns result, rows and state of a run; with `until`, stops it after that step."""
    config = copy.deepcopy(config)
    config.devices, config.parallel = devices, parallel
    if until is not None:
        with interrupted(until, sigterm):
            train_and_evaluate(config, workdir)
        return None
    result = train_and_evaluate(config, workdir)
    assert result["devices"] == devices
    state = jax.device_get(saved_state(workdir, config)[1])
    return result, read_rows(workdir / "metrics.jsonl"), state


def _assert_same_run(run, other):
    (result, rows, state), (other_result, other_rows, other_state) = run, other
    jax.tree.map(
        _assert_close,
        (state.params, state.batch_stats),
        (other_state.params, other_state.batch_stats),
    )
    for row, other_row in zip(rows, other_rows, strict=True):
        assert row.keys() == other_row.keys()
        for name in row.keys() - {"images_per_second"}:
            np.testing.assert_allclose(other_row[name], row[name], rtol=1e-5, err_msg=name)
    for name in ("test_loss", "test_accuracy", "test_examples"):
        np.testing.assert_allclose(other_result[name], result[name], rtol=1e-5)


@pytest.mark.parametrize(
    "make_config", [tiny_config, _lenet_digits], ids=["batch norm, dropout, sgd", "lenet_digits"]
)
def test_one_device_and_eight_give_the_same_run(make_config, tmp_path):
    one, eight = (_train(make_config(), tmp_path / str(n), devices=n) for n in (1, 8))
    _assert_same_run(one, eight)


def test_a_run_moves_from_one_device_to_two_to_eight_under_pmap(tmp_path):
    config = _without_randomness(accumulate=2)
    straight = _train(config, tmp_path / "straight", devices=1)
    _train(config, tmp_path / "moved", devices=1, until=2)
    _train(config, tmp_path / "moved", devices=2, until=4)
    moved = _train(config, tmp_path / "moved", devices=8, parallel="pmap")
    assert moved[0]["resumed_from_step"] == 4
    _assert_same_run(straight, moved)


def test_ghost_batch_norm_is_the_same_by_jit_and_by_pmap_and_not_the_global_one(tmp_path):
    config = _without_randomness(accumulate=2, batch_statistics="ghost")
    jit, pmap = (_train(config, tmp_path / way, devices=8, parallel=way) for way in ("jit", "pmap"))
    _assert_same_run(jit, pmap)
    one = _train(config, tmp_path / "one", devices=1)
    assert abs(one[1][0]["train_loss"] / jit[1][0]["train_loss"] - 1) > 1e-4
