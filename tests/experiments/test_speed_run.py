"""The command that times whole trainings: what it says, and what it refuses."""

import json

import pytest

from tests.experiments.command import run_all


def test_the_command_says_each_run_and_the_mean(tmp_path):
    flags = ["--config=lenet_digits", "--runs=2", "--config.seed=5", "--config.train.steps=3"]
    (answer,) = run_all("speed_run", [flags], cwd=tmp_path)
    assert answer.code == 0, answer.err
    *runs, last = map(json.loads, answer.out.splitlines())
    assert [each["seed"] for each in runs] == [5, 6]
    mean = sum(each["test_accuracy"] for each in runs) / 2
    assert last["test_accuracy_mean"] == pytest.approx(mean)
    assert (last["config"], last["runs"]) == ("lenet_digits", 2)
    assert "seed 6: " in answer.err
    half = last["test_accuracy_ci95"]
    assert answer.err.endswith(f"mean test accuracy {mean:.2%} ± {half:.2%}\n")
    assert not list(tmp_path.iterdir())


def test_streamed_data_is_refused(tmp_path):
    flags = ["--config=lenet_digits", "--config.data.feed=streaming"]
    (answer,) = run_all("speed_run", [flags], cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert "set data.feed=resident" in answer.err
