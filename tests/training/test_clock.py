import os
import time

import pytest

from cnn_jax.training.clock import Clock, process_start


@pytest.fixture
def passes(monkeypatch):
    """A clock on the wall that moves only when told to."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def pass_seconds(seconds):
        now[0] += seconds

    return pass_seconds


def test_every_second_belongs_to_one_stage(passes):
    clock = Clock("import", start=97.0)
    with clock.stage("train"):
        passes(10)
        with clock.stage("evaluate"):
            passes(2)
        passes(5)
    passes(1)
    with clock.stage("evaluate"):
        passes(4)
    assert clock.seconds() == {"import": 4, "train": 15, "evaluate": 6}


def test_the_stage_under_way_counts_up_to_now(passes):
    clock = Clock("import")
    with clock.stage("train"):
        passes(3)
        assert clock.seconds() == {"import": 0, "train": 3}
        passes(3)
        assert clock.seconds()["train"] == 6


def test_a_stage_that_fails_is_counted_and_left(passes):
    clock = Clock("other")
    with pytest.raises(ZeroDivisionError), clock.stage("train"):
        passes(2)
        raise ZeroDivisionError
    passes(1)
    assert clock.seconds() == {"other": 1, "train": 2}


def test_what_was_returned_does_not_change_later(passes):
    clock = Clock("other")
    before = clock.seconds()
    passes(1)
    assert before == {"other": 0}


def test_a_process_began_before_it_computed_anything():
    age = time.perf_counter() - process_start()
    assert age * (os.cpu_count() or 1) > time.process_time() - 0.1
