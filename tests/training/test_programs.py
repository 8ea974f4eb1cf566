"""Several steps in one call are the same steps."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from cnn_jax.config import Train
from cnn_jax.errors import InputError
from cnn_jax.metric_rows import read_rows
from cnn_jax.training.cadence import calls, steps_at_once
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.setup import Experiment, build_experiment
from tests.training.tiny import saved_state, tiny_config


@pytest.mark.parametrize("most", [1, 2, 5, 7])
def test_calls_cover_every_step_once_and_end_at_all_that_are_due(most):
    due = {3, 4, 11, 20, 21, 30}
    found = list(calls(2, 30, most=most, due=due.__contains__))
    covered = [step for last, count in found for step in range(last - count + 1, last + 1)]
    assert covered == list(range(3, 31))
    assert due <= {last for last, _ in found}
    assert {count for _, count in found} <= {1, most}


def _experiment(platform, examples=1350, **train):
    config = tiny_config(**train)
    config.data.batch_size = 100
    values = {
        "config": config,
        "mesh": SimpleNamespace(devices=np.array([SimpleNamespace(platform=platform)])),
        "dataset": SimpleNamespace(train=range(examples), feed="resident"),
    }
    experiment = object.__new__(Experiment)
    for name, value in values.items():
        object.__setattr__(experiment, name, value)
    return experiment


@pytest.mark.parametrize(
    ("platform", "train", "most"),
    [
        ("cpu", {}, 1),
        ("gpu", {"log_every": 50}, 10),  # an epoch has 13 batches
        ("tpu", {"log_every": 7}, 7),
        ("gpu", {"log_every": 1}, 1),
        ("cpu", {"steps_per_dispatch": 3}, 3),
    ],
)
def test_how_many_by_itself(platform, train, most):
    assert steps_at_once(_experiment(platform, **train)) == most


def test_long_epochs_have_up_to_32_and_a_stop_never_waits_longer():
    assert steps_at_once(_experiment("gpu", 10**6, log_every=Train().log_every)) == 25


def test_more_than_an_epoch_at_once_is_refused():
    with pytest.raises(InputError, match="steps_per_dispatch is 14; it can be 13 at most"):
        steps_at_once(_experiment("gpu", steps_per_dispatch=14))


@pytest.mark.usefixtures("optax_promotes")
def test_a_run_by_threes_is_the_run_step_by_step(tmp_path):
    fields = {"steps": 11, "log_every": 4, "eval_every": 8, "skip_nonfinite": 1}
    config = tiny_config(**fields)
    results = []
    for at_once in (1, 3):
        config = dataclasses.replace(
            config, train=dataclasses.replace(config.train, steps_per_dispatch=at_once)
        )
        result = train_and_evaluate(config, tmp_path / str(at_once))
        _, state = saved_state(tmp_path / str(at_once), config)
        results.append((result, state, read_rows(tmp_path / str(at_once) / "metrics.jsonl")))
    (result, state, rows), (other_result, other_state, other_rows) = results
    for a, b in zip(*map(jax.tree.leaves, (state, other_state)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)  # compiled apart, rounded apart
    for row, other in zip(rows, other_rows, strict=True):
        assert row.keys() == other.keys() and row["step"] == other["step"]
        np.testing.assert_allclose(row["train_loss"], other["train_loss"], rtol=1e-5)
    assert [row["step"] for row in rows] == [4, 8, 11]
    np.testing.assert_allclose(result["test_loss"], other_result["test_loss"], rtol=1e-5)


def test_what_has_no_blocks_is_not_rematerialised():
    with pytest.raises(InputError, match=r"train.remat is for residual blocks; tiny has none"):
        build_experiment(tiny_config(remat=True))
