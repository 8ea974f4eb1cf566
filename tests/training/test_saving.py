"""Which checkpoint is the best, and what a stop says of the last."""

import math

import pytest

from cnn_jax.config import Train
from cnn_jax.errors import RunError
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


def test_a_stop_claims_no_checkpoint_that_could_not_even_be_begun(tmp_path, monkeypatch):
    def save(*_, **__):
        raise OSError("the disk is full")

    said = []
    with Checkpoints(tmp_path) as checkpoints:
        train = Train(on_save_error="continue")
        saving = Saving(checkpoints, train, clock=Clock(), say=said.append)
        monkeypatch.setattr(checkpoints._manager, "save", save)
        saving.save(5, {}, None)
        with pytest.raises(RunError, match="stopped by SIGTERM at step 5, not saved"):
            saving.stop("SIGTERM", 5, 10, tmp_path)
    assert "the disk is full" in said[0]
