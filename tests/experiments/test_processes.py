"""One run in several processes, really started: killed, stopped, moved from two to four to one."""

import os
import signal
import socket
import time

import jax
import numpy as np
import pytest

from cnn_jax.metric_rows import read_rows
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.processes import HEARTBEAT_SECONDS
from cnn_jax.training.run_directory import read_config, read_json
from tests.experiments.command import Together
from tests.training.tiny import saved_state

STEPS = 60
ARGUMENTS = [
    "--config=lenet_digits",
    "--config.model.width=0.25",
    "--config.data.batch_size=60",  # 1,350 examples are 22.5 batches
    "--config.optim.name=sgd",
    f"--config.train.steps={STEPS}",
    "--config.train.log_every=10",
    "--config.train.eval_every=30",
    "--config.train.checkpoint_every=5",
    "--config.train.pictures=false",
]


def _free_port(lowest):
    for port in range(lowest, 65536):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no port is free")


def _by_flags(count):
    """Four devices in all, over `count` processes that are told of each other."""
    port = _free_port(20_000 + os.getpid() % 20_000)
    flags = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}"]
    return [([*flags, f"--process_id={i}"], {}) for i in range(count)]


def _by_slurm(count):
    """The same as srun would start them; jax derives the port from the job's number."""
    port = _free_port(61_440 + os.getpid() % 4_000)
    job = {
        "SLURM_JOB_ID": str(port - 61_440),
        "SLURM_NTASKS": str(count),
        "SLURM_STEP_NODELIST": "localhost",
    }
    return [([], {**job, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}) for i in range(count)]


def _start(processes, workdir):
    lines = [
        ([*ARGUMENTS, *more, f"--workdir={workdir}"], environment)
        for more, environment in processes
    ]
    return Together(lines, devices=4 // len(processes), cwd=workdir.parent)


def _wait_for_checkpoint(run, workdir, after):
    while not any(
        path.name.isdigit() and int(path.name) > after
        for path in (workdir / "checkpoints").glob("*")
    ):
        assert run.running(), run.finish()
        time.sleep(0.01)


def _last(workdir):
    return max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A run of two processes, one killed; then of four, one asked to stop; then of one."""
    workdir = tmp_path_factory.mktemp("processes") / "run"
    answers = []
    run = _start(_by_flags(2), workdir)
    _wait_for_checkpoint(run, workdir, 0)
    os.kill(run.pids[1], signal.SIGKILL)
    answers.append(run.finish(timeout=2 * HEARTBEAT_SECONDS))
    at = _last(workdir)
    run = _start(_by_slurm(4), workdir)
    _wait_for_checkpoint(run, workdir, at)
    os.kill(run.pids[2], signal.SIGTERM)
    answers.append(run.finish())
    answers.append(_start([([], {})], workdir).finish())
    return workdir, answers


def test_when_one_is_killed_the_others_end_in_time_and_say_why(moved):
    _, ((codes, texts), _, _) = moved
    assert codes == [1, -signal.SIGKILL]
    last = texts[0].splitlines()[-1]
    assert last.startswith("error: process 0 of 2 can't go on without the others")
    assert "start all processes again" in last


def test_when_one_is_asked_to_stop_all_stop_at_the_same_step(moved):
    _, (_, (codes, texts), _) = moved
    assert codes == [75] * 4
    lines = {text.splitlines()[-1] for text in texts}
    assert len(lines) == 1
    assert lines.pop().startswith("stopped by SIGTERM at step ")


def test_the_first_process_alone_speaks(moved):
    _, (_, (_, texts), _) = moved
    assert "4 cpu devices of 4 processes" in texts[0]
    assert all(len(text.splitlines()) == 1 for text in texts[1:])


def test_the_run_moved_from_two_to_four_to_one_is_the_run_of_one(moved, tmp_path):
    workdir, (_, _, (codes, texts)) = moved
    assert codes == [0], texts
    config = read_config(workdir)
    config.devices = 1
    with jax.numpy_dtype_promotion("standard"):
        expected = train_and_evaluate(config, tmp_path)
        states = [saved_state(directory, config)[1].params for directory in (workdir, tmp_path)]
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        assert np.linalg.norm(one - other) <= 1e-4 * np.linalg.norm(other)
    rows, expected_rows = (read_rows(d / "metrics.jsonl") for d in (workdir, tmp_path))
    assert [row["step"] for row in rows] == [row["step"] for row in expected_rows]
    for row, other in zip(rows, expected_rows, strict=True):
        np.testing.assert_allclose(row["train_loss"], other["train_loss"], rtol=1e-4)
    assert read_json(workdir / "result.json")["test_accuracy"] == expected["test_accuracy"]


@pytest.mark.parametrize("feed", ["resident", "streaming"])
def test_a_program_per_device_takes_either_feed_in_two_processes(feed, tmp_path):
    more = ["--config.parallel=pmap", f"--config.data.feed={feed}", "--config.train.steps=3"]
    lines = [([*ARGUMENTS, *more, *flags, "--workdir=run"], {}) for flags, _ in _by_flags(2)]
    codes, texts = Together(lines, devices=1, cwd=tmp_path).finish()
    assert codes == [0, 0], texts
    config = read_config(tmp_path / "run")
    config.devices = 2
    with jax.numpy_dtype_promotion("standard"):
        expected = train_and_evaluate(config, tmp_path / "one")
    found = read_json(tmp_path / "run" / "result.json")
    assert (found["feed"], found["test_accuracy"]) == (feed, expected["test_accuracy"])
    np.testing.assert_allclose(found["test_loss"], expected["test_loss"], rtol=1e-4)


@pytest.mark.parametrize(
    ("flag", "words"),
    [("--config.seed=1", "seed is 0 in process 0 and 1 in "), ("--workdir=b", "--workdir")],
)
def test_processes_that_were_started_otherwise_begin_no_run(flag, words, tmp_path):
    first, second = _by_flags(2)
    lines = [([*ARGUMENTS, "--workdir=a", *more], {}) for more in (first[0], [*second[0], flag])]
    codes, texts = Together(lines, devices=1, cwd=tmp_path).finish()
    assert codes == [2, 2]
    for text in texts:
        assert f"error: the processes differ: {words}" in text
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
