"""Training through the real command line: what it leaves, and that stops change nothing."""

import json
import signal
import subprocess

import jax
import numpy as np
import pytest

from cnn_jax.metric_rows import read_rows
from cnn_jax.training.run_directory import read_config, read_json
from experiments import configs
from tests.data.fakes import prepare_fake
from tests.experiments.command import contents, finish, run_all, start
from tests.experiments.conftest import ARGUMENTS, EVERY, STEPS
from tests.training.tiny import saved_state

ROWS = [*range(EVERY, STEPS + 1, EVERY)]
COUNTERS = ("test_accuracy", "test_loss", "test_examples", "steps", "seed", "parameters")


def _step_reached(process, workdir, step):
    """Waits until the run has saved a checkpoint at or after a step."""
    while not any(
        path.name.isdigit() and int(path.name) >= step
        for path in (workdir / "checkpoints").glob("*")
    ):
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"the run ended first: {process.communicate()}")


def _leaves(workdir):
    return jax.tree.leaves(saved_state(workdir, read_config(workdir))[1].params)


def test_a_run_leaves_what_scripts_rely_on(finished):
    workdir, answer = finished
    assert answer.out == ""
    assert "compiling" in answer.err and "test accuracy" in answer.err
    names = {path.name for path in workdir.iterdir()}
    assert names >= {"config.json", "metrics.jsonl", "result.json", "checkpoints", "tensorboard"}
    result = read_json(workdir / "result.json")
    assert result["steps"] == STEPS
    assert result["test_examples"] == 297
    assert result["test_accuracy"] > 0.8
    assert result["parameters"] == sum(leaf.size for leaf in _leaves(workdir))
    for name in ("train_seconds", "compile_seconds", "images_per_second"):
        assert result[name] > 0
    assert [row["step"] for row in read_rows(workdir / "metrics.jsonl")] == ROWS
    config = read_config(workdir)
    assert (config.name, config.train.steps, config.train.epochs) == ("lenet_digits", STEPS, None)


def test_a_finished_run_says_so_and_is_left_alone(finished):
    workdir, _ = finished
    before = contents(workdir)
    (answer,) = run_all("train", [[*ARGUMENTS, f"--workdir={workdir}"]], cwd=workdir)
    assert answer.code == 0
    assert "holds a finished run" in answer.err
    assert contents(workdir) == before


def test_a_run_stopped_and_killed_ends_bit_for_bit_as_one_never_stopped(finished, tmp_path):
    straight, _ = finished
    workdir = tmp_path / "run"
    command = ["train", *ARGUMENTS, "--config.train.pictures=false", f"--workdir={workdir}"]

    process = start(*command, cwd=tmp_path)
    _step_reached(process, workdir, EVERY)
    process.send_signal(signal.SIGTERM)
    stopped = finish(process)
    assert stopped.code == 75, stopped.err
    message = stopped.err.splitlines()[-1]
    assert message.startswith("stopped by SIGTERM at step ")
    assert f"--workdir={workdir}" in message
    at = int(message.split()[5])

    process = start(*command, cwd=tmp_path)
    _step_reached(process, workdir, at + 2 * EVERY)
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    assert not (workdir / "result.json").exists()

    resumed = finish(start(*command, cwd=tmp_path))
    assert resumed.code == 0, resumed.err
    result, expected = (read_json(d / "result.json") for d in (workdir, straight))
    assert result["resumed_from_step"] > at
    assert [result[name] for name in COUNTERS] == [expected[name] for name in COUNTERS]
    config = read_config(workdir)
    for which in ("last", "best"):
        step, state = saved_state(workdir, config, which)
        other_step, other = saved_state(straight, config, which)
        assert step == other_step
        jax.tree.map(np.testing.assert_array_equal, state, other)
    steps = [row["step"] for row in read_rows(workdir / "metrics.jsonl")]
    assert steps == ROWS


def test_steps_unset_epochs_and_epochs_unset_steps(tmp_path):
    """A config file of the other kind is overruled."""
    cases = [
        (["--config.train.steps=3"], 3, None),
        (["--config.train.epochs=0.01"], None, 0.01),
        (["-config.train.steps", "3"], 3, None),
    ]
    config = configs.load("lenet_digits")
    lines = []
    for i, (given, steps, _) in enumerate(cases):
        config.train.steps, config.train.epochs = (None, 2.0) if steps else (9, None)
        values = json.dumps({"name": "mine", "train": vars(config.train)})
        (tmp_path / f"mine{i}.json").write_text(values)
        arguments = [f"--config=mine{i}.json", "--config.model.name=lenet_same", *given]
        lines.append([*arguments, f"--workdir=run{i}", "--check"])
    for answer, (_, *expected) in zip(run_all("train", lines, cwd=tmp_path), cases, strict=True):
        assert answer.code == 0, answer.err
        train = json.loads(answer.out)["train"]
        assert [train["steps"], train["epochs"]] == expected


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("tfds")
    prepare_fake("cifar10", data_dir, train=20, test=20)
    return data_dir


def test_the_flagship_runs_shrunk(cifar, tmp_path):
    shrunk = ["--config.train.steps=2", "--config.data.batch_size=8", "--config.train.log_every=1"]
    shrunk += ["--config.model.width=0.25", "--config.train.pictures=false"]
    place = f"--config.data.dir={cifar}"
    line = ["--config=vgg_cifar", *shrunk, place, "--workdir=run"]
    (answer,) = run_all("train", [line], cwd=tmp_path)
    assert answer.code == 0, answer.err
    result = read_json(tmp_path / "run" / "result.json")
    assert (result["steps"], result["test_examples"]) == (2, 20)
    assert result["parameters"] == 923_130
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    assert all(np.isfinite(row["train_loss"]) for row in rows)
