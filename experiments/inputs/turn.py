"""One figure, taken in a process of its own: `python -m experiments.inputs.turn SUBJECT TASK`."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cnn_jax.peak_rss import peak_rss_with_children

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


class TurnError(RuntimeError):
    """A figure could not be taken; the message says why in one line."""


def take(subject: str, *, cores: int = 0, cache: Path | None = None, **task: Any) -> dict[str, Any]:
    """Returns what `experiments.inputs.SUBJECT.measure(**task)` returns, and `peak_memory_bytes`.

    The peak is that of the process and, if that is more, of the largest of its own.

    Args:
      subject: the module.
      cores: the processors that the process and its own may use; 0: all.
      cache: a directory for what this project caches, instead of the user's.
      task: arguments that JSON can hold.
    """
    environment = {**os.environ, **_QUIET}
    if cache:
        environment["CNN_JAX_CACHE"] = str(cache)
    command = [sys.executable, "-m", __name__, subject, json.dumps(task), str(cores)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    if answer.returncode:
        said = answer.stderr.strip().splitlines()
        raise TurnError(said[-1] if said else f"ended with code {answer.returncode}")
    return json.loads(answer.stdout.splitlines()[-1])


def _restrict(cores: int) -> None:
    """Before any library counts the processors."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def main(subject: str, task: str, cores: str) -> None:
    """Takes the figure and prints it."""
    _restrict(int(cores))
    module = importlib.import_module(f"experiments.inputs.{subject}")
    found = module.measure(**json.loads(task))
    print(json.dumps(found | {"peak_memory_bytes": peak_rss_with_children()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
