"""Which checkpoint is the best."""

import math

import pytest

from cnn_jax.config import Train
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.clock import Clock
from cnn_jax.training.saving import Saving


@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_what_is_no_number_is_never_the_best(monitor, tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        saving = Saving(checkpoints, Train(monitor=monitor), clock=Clock(), say=print)
        sign = -1 if monitor == "loss" else 1
        values = [math.nan, 0.5 - sign * 0.1, 0.5, math.nan, 0.5]
        better = [saving.improves(i, {monitor: value}) for i, value in enumerate(values)]
    assert better == [False, True, True, False, False]
    assert saving.best == (2, sign * 0.5)
