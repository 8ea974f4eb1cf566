"""A run that takes no steps any more is ended, and one that does is not."""

import contextlib
import subprocess
import sys
import threading

import pytest

from cnn_jax.config import with_fields
from cnn_jax.training import loop, stall
from cnn_jax.training.interruption import Stopped
from tests.training.tiny import tiny_config

STUCK = """
import sys, threading
from cnn_jax.training.stall import ended_if_stalled

with ended_if_stalled(0.2) as note_step:
    for step in map(int, sys.argv[1:]):
        note_step(step)
    threading.Event().wait()
"""


@pytest.mark.parametrize(("steps", "after"), [([], "since it began"), (["4", "5"], "after step 5")])
def test_a_process_that_is_stuck_ends_and_says_where(steps, after):
    command = [sys.executable, "-c", STUCK, *steps]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 1
    *where, line = answer.stderr.splitlines()
    assert line.startswith(f"error: process 0 of 1 has taken no step for 0.2 s, {after} ")
    assert any("<string>" in each and "in <module>" in each for each in where)


def test_no_seconds_watch_nothing_and_an_end_ends_the_watching(monkeypatch):
    monkeypatch.setattr(stall.os, "_exit", lambda code: pytest.fail("it has ended"))
    before = threading.active_count()
    with stall.ended_if_stalled(0) as note_step:
        note_step(1)
        assert threading.active_count() == before
    with stall.ended_if_stalled(600):
        (watcher,) = [each for each in threading.enumerate() if each.name == "stall"]
    watcher.join(60)
    assert not watcher.is_alive()


def test_a_run_tells_of_each_step(monkeypatch, tmp_path, optax_promotes):
    told = []

    @contextlib.contextmanager
    def recorded(seconds):
        told.append(seconds)
        yield told.append

    monkeypatch.setattr(loop, "ended_if_stalled", recorded)
    config = tiny_config(steps=3, stall_seconds=60.0)
    with pytest.raises(Stopped):
        loop.train_and_evaluate(with_fields(config, {"train.max_seconds": 1e-3}), tmp_path)
    loop.train_and_evaluate(with_fields(config, {"train.stall_seconds": 0.0}), tmp_path)
    assert told == [60.0, 1, 0.0, 2, 3]
