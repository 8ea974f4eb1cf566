"""Several seeds of one config: runs, their mean, and what is not done twice."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from cnn_jax.spread import spread
from tests.launch.command import run_all, start

ARGUMENTS = [
    "--config=lenet_digits",
    "--config.model.width=0.25",
    "--config.train.steps=3",
    "--config.data.batch_size=32",
    "--config.optim.name=sgd",  # with less to compile
    "--config.data.augment.crop_padding=0",
    "--config.train.pictures=false",
]


def run(*arguments):
    command = [sys.executable, "-m", "launch.seeds", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)


def test_the_spread_is_the_textbooks():
    values = [0.9, 0.92, 0.97]
    found = spread(values)
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["std"] == pytest.approx(np.std(values, ddof=1))
    assert found["ci95"] == pytest.approx(4.302653 * np.std(values, ddof=1) / np.sqrt(3))


def test_runs_are_made_once_and_their_mean_is_stated(tmp_path):
    for seeds in (1, 2):
        done = run(*ARGUMENTS, "--config.seed=3", f"--seeds={seeds}", f"--workdir={tmp_path}")
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout.splitlines()[-1])
    assert done.stderr.count("holds a finished run") == 1
    results = [json.loads((tmp_path / f"seed_{i}/result.json").read_text()) for i in (3, 4)]
    assert [result["seed"] for result in results] == [3, 4]
    assert summary["test_accuracies"] == [result["test_accuracy"] for result in results]
    assert summary["test_accuracy"]["mean"] == pytest.approx(np.mean(summary["test_accuracies"]))


def test_ctrl_c_ends_as_the_training_does_and_begins_no_other(fake_place):
    line = ["--config=mine", "--config.model.name=waits", "--seeds=2", "--workdir=seeds"]
    process = start("seeds", *line, cwd=fake_place, start_new_session=True)
    while not list(fake_place.rglob("seed_0/metrics.jsonl")):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (75, "")
    assert not (fake_place / "seeds/seed_1").exists()


def test_a_result_that_lacks_what_is_stated_is_named(fake_place):
    line = ["--config=mine", "--seeds=2", "--workdir=older"]  # the fake's results have no config
    (answer,) = run_all("seeds", [line], cwd=fake_place)
    assert (answer.code, answer.out) == (2, "")
    assert "older/seed_0/result.json is damaged (it has no config); delete it" in answer.err


def test_wrong_input_ends_with_the_commands_own_code(tmp_path):
    lines = [
        ["--config=lenet_digts", "--workdir=runs"],
        ["--config=lenet_digits"],
        ["--workdir=runs"],
        ["--config=lenet_digits", "--config.population.seeds=2", "--workdir=runs"],
        ["--config=lenet_digits", f"--config.seed={2**32 - 2}", "--seeds=3", "--workdir=runs"],
    ]
    unknown, nowhere, nothing, population, beyond = run_all("seeds", lines, cwd=tmp_path)
    assert unknown.code == nowhere.code == nothing.code == population.code == 2
    assert (beyond.code, len(beyond.err.splitlines())) == (2, 1)
    assert "seeds must be below 2**32" in beyond.err and not (tmp_path / "runs").exists()
    assert "the config is a population" in population.err
    assert "--config=NAME is missing" in nothing.err
    assert "did you mean 'lenet_digits'" in unknown.err
    assert "--workdir=DIR is missing" in nowhere.err
