"""Whole runs in turns: what is recorded, and what is refused."""

import pytest

from cnn_jax.errors import InputError, RunError
from experiments.contenders import OURS
from experiments.contenders.commands import timed
from experiments.contenders.whole_runs import Turn, record
from tests.experiments.command import run


def test_a_record_has_medians_and_the_ratio_of_each_round():
    turns = {OURS: [Turn(10.0, 0.98), Turn(12.0, 0.99)], "keras-jax": [Turn(30.0, 0.97)] * 2}
    said = record("keras-jax", turns)
    assert (said["seconds"], said["test_accuracy"]) == (30.0, 0.97)
    assert (said["this_over_ours_min"], said["this_over_ours_max"]) == (2.5, 3.0)
    assert record(OURS, turns)["test_accuracy_min"] == 0.98


def test_a_command_that_fails_says_why():
    with pytest.raises(RunError, match=r"json.tool ended with code .*No such file"):
        timed(["json.tool", "no file"])
    seconds, done = timed(["base64", "-t"])
    assert seconds > 0 and done.stdout


def test_a_command_that_refuses_its_input_is_quoted():
    with pytest.raises(InputError, match=r"^nowhere is no run directory"):
        timed(["experiments.evaluate", "--workdir=nowhere"])


def test_an_unknown_peer_is_refused(tmp_path):
    answer = run("benchmark_accuracy", "--peer=keras-jaxx", cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert "did you mean 'keras-jax'?" in answer.err
