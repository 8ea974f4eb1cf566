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
from functools import partial
from pathlib import Path

import jax
import numpy as np
from absl import flags

from cnn_jax.config import Config
from cnn_jax.errors import RunError
from cnn_jax.metric_rows import METRICS, read_rows
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.run_directory import RESULT, read_json
from cnn_jax.training.setup import abstract_state, build_experiment
from experiments import command_line, configs

SAVE_EVERY = 5  # steps

_KILLS = flags.DEFINE_integer("kills", 100, "how many", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 300, "length of a run", lower_bound=10)
_SEED = flags.DEFINE_integer("seed", 0, "of the instants")
_WORKDIR = flags.DEFINE_string("workdir", None, "where the runs go; default: a temporary directory")


def killed_config(steps: int) -> Config:
    """Returns a small run that logs, evaluates and saves often, with augmentation."""
    config = configs.load("lenet_digits")
    config.model.width = 0.25
    config.train.epochs, config.train.steps = None, steps
    config.train.log_every, config.train.eval_every = 7, 20
    config.train.checkpoint_every = SAVE_EVERY
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


def has_ended(pid: int) -> bool:
    """Whether a child process has ended; it can still be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def last_saved(workdir: Path) -> int:
    """Returns the step of the last complete checkpoint, 0 without one."""
    names = [path.name for path in workdir.glob("checkpoints/*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def kill_at(pid: int, workdir: Path, *, step: int, delay: float) -> bool:
    """Kills a process some seconds after it has saved a step; returns whether it still lived."""
    while last_saved(workdir) < step and not has_ended(pid):
        time.sleep(0.002)
    end = time.perf_counter() + delay
    while time.perf_counter() < end and not has_ended(pid):
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)  # a process that has ended is past caring
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


def instant(draw: random.Random, workdir: Path, straight: dict) -> dict[str, float]:
    """Draws when to kill: up to 100 steps on, anywhere between two saves, or while it starts."""
    seconds = straight["seconds"]
    saves = draw.randint(0, 20)
    if saves:
        share = SAVE_EVERY / straight["steps"]
        longest = share * sum(seconds[stage] for stage in ("train", "checkpoint", "evaluate"))
    else:
        longest = seconds["data"] + seconds["compile"] + seconds["checkpoint"]
    step = last_saved(workdir) + saves * SAVE_EVERY
    return {"step": step, "delay": draw.uniform(0, longest)}


def run_and_kill(config: Config, root: Path, *, kills: int, seed: int) -> dict:
    """Returns the counts: kills, how many of them while a checkpoint was being written, runs."""
    straight, draw = root / "straight", random.Random(seed)

    def start(workdir: Path) -> int:
        return fork(lambda: bool(train_and_evaluate(config, workdir)), workdir.with_suffix(".log"))

    if wait(start(straight)):
        raise RunError(f"the run that is not killed failed; see {straight}.log")
    expected = read_json(straight / RESULT)
    done = {"kills": 0, "kills_during_a_save": 0, "runs": 0, "runs_that_differ": 0}
    while done["kills"] < kills:
        workdir = root / f"run_{done['runs']}"
        while not (workdir / RESULT).exists():
            pid = start(workdir)
            if done["kills"] == kills:
                if wait(pid):
                    break
            elif kill_at(pid, workdir, **instant(draw, workdir, expected)):
                done["kills"] += 1
                done["kills_during_a_save"] += any(workdir.glob("checkpoints/*.orbax-*-tmp*"))
        check = partial(is_same_run, config, workdir, straight)
        done["runs"] += 1
        done["runs_that_differ"] += wait(fork(check, workdir.with_suffix(".log"))) != 0
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
