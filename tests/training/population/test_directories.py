"""The run directories of a population's members."""

import errno
import os

import pytest

from cnn_jax.errors import RunError
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.population.directories import write_member
from cnn_jax.training.population.standing import Member
from cnn_jax.training.setup import build_experiment, initial_state
from tests.training.tiny import tiny_config


def test_one_that_a_full_disk_does_not_take_is_told_in_one_line(tmp_path, monkeypatch):
    def save(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    experiment = build_experiment(tiny_config())
    member = Member(3, experiment, state=initial_state(experiment))
    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(RunError, match=r"members/003 can't be written: No space left"):
        write_member(tmp_path, member, {})
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"members/003 can't be written: "):
        write_member(tmp_path / "file", member, {})
