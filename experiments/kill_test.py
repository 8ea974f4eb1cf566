"""Kills training runs with SIGKILL at random instants and checks that nothing was lost.

    python -m experiments.kill_test --kills=100 [--workdir=DIR]

A run of a few hundred steps that saves every few of them is killed and started again until it is
done, as many such runs as it takes. Each must end with the state of a run that was never killed,
bit for bit, with the same test metrics and with each row of metrics.jsonl once and in order. Ends
with one JSON object; exit code 1 if anything differs.

Every start is a process of its own, forked from one that has done the slow imports and no more.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags

from cnn_jax.config import Config
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.run_directory import METRICS, RESULT, read_json
from cnn_jax.training.setup import abstract_state, build_experiment
from cnn_jax.training.writers import read_rows
from experiments import command_line, configs

_KILLS = flags.DEFINE_integer("kills", 100, "how many", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 300, "length of a run", lower_bound=10)
_SEED = flags.DEFINE_integer("seed", 0, "of the instants")
_WORKDIR = flags.DEFINE_string("workdir", None, "where the runs go; default: a temporary directory")


def killed_config(steps: int) -> Config:
    """Returns a small run that logs, evaluates and saves often, with augmentation."""
    config = configs.load("lenet_digits")
    config.model.width = 0.25
    config.train.epochs, config.train.steps = None, steps
    config.train.log_every, config.train.eval_every, config.train.checkpoint_every = 7, 20, 5
    return config


def fork(action: Callable[[], bool | None], log: Path) -> int:
    """Returns the id of a new process that does `action` and exits; 1 for an error or False."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644), 2)
        code = int(action() is False)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(code)


def wait(pid: int) -> int:
    """Returns the exit code of a process."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_after(pid: int, seconds: float) -> bool:
    """Kills a process after so many seconds; returns whether it was still alive then."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(min(0.01, max(0.0, end - time.perf_counter())))
    os.kill(pid, signal.SIGKILL)  # of one that has ended by itself, it changes nothing
    return wait(pid) == -signal.SIGKILL


def is_same_run(config: Config, workdir: Path, straight: Path) -> bool:
    """Whether two finished runs have the same state, bit for bit, rows and test metrics."""
    template = abstract_state(build_experiment(config))
    states, rows, results = [], [], []
    for directory in (workdir, straight):
        with Checkpoints(directory / "checkpoints", read_only=True) as checkpoints:
            states.append(jax.device_get(checkpoints.restore(checkpoints.find("last"), template)))
        rows.append(read_rows(directory / METRICS))
        for row in rows[-1]:
            del row["images_per_second"]
        result = read_json(directory / RESULT)
        results.append([result[name] for name in ("steps", "test_loss", "test_accuracy")])
    pairs = zip(*map(jax.tree.leaves, states), strict=True)
    same_state = all(np.array_equal(one, other) for one, other in pairs)
    return same_state and rows[0] == rows[1] and results[0] == results[1]


def run_and_kill(config: Config, root: Path, *, kills: int, seed: int) -> dict:
    """Returns the counts: kills, how many of them while a checkpoint was being written, runs."""
    straight, draw = root / "straight", random.Random(seed)
    began = time.perf_counter()
    if wait(fork(lambda: bool(train_and_evaluate(config, straight)), root / "straight.log")):
        raise SystemExit(f"the run that is not killed failed; see {root / 'straight.log'}")
    span = time.perf_counter() - began
    done = {"kills": 0, "kills_during_a_save": 0, "runs": 0, "runs_that_differ": 0}
    while done["kills"] < kills:
        workdir, log = root / f"run_{done['runs']}", root / f"run_{done['runs']}.log"
        finished = False
        while not finished:
            pid = fork(lambda: bool(train_and_evaluate(config, workdir)), log)  # noqa: B023
            if done["kills"] < kills and kill_after(pid, draw.uniform(0, span)):
                done["kills"] += 1
                saving = any(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*"))
                done["kills_during_a_save"] += saving
            else:
                finished = (workdir / RESULT).exists() or wait(pid) == 0
        same = wait(fork(lambda: is_same_run(config, workdir, straight), log)) == 0  # noqa: B023
        done["runs"] += 1
        done["runs_that_differ"] += not same
    return done


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    began = time.perf_counter()
    root = Path(_WORKDIR.value or tempfile.mkdtemp(prefix="kill_test"))
    root.mkdir(parents=True, exist_ok=True)
    config = killed_config(_STEPS.value)
    done = run_and_kill(config, root, kills=_KILLS.value, seed=_SEED.value)
    seconds = round(time.perf_counter() - began, 1)
    print(json.dumps({**done, "steps": _STEPS.value, "seconds": seconds, "workdir": str(root)}))
    return command_line.FAILED if done["runs_that_differ"] else 0


if __name__ == "__main__":
    command_line.run(main)
