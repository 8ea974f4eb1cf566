"""One figure, taken in a process of its own: `python -m experiments.inputs.turn SUBJECT TASK`."""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from cnn_jax.peak_rss import peak_rss_with_children
from experiments.contenders.commands import timed

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


def take(subject: str, *, cores: int = 0, cache: Path | None = None, **task: Any) -> dict[str, Any]:
    """Returns what `experiments.inputs.SUBJECT.measure(**task)` returns, and `peak_memory_bytes`.

    The peak is that of the process and, if that is more, of the largest of its own.

    Args:
      subject: the module.
      cores: the processors that the process and its own may use; 0: all.
      cache: a directory for what this project caches, instead of the user's.
      task: arguments that JSON can hold.

    Raises:
      RunError: the figure could not be taken; the message says why in one line.
    """
    environment = _QUIET | ({"CNN_JAX_CACHE": str(cache)} if cache else {})
    _, done = timed([__name__, subject, json.dumps(task), str(cores)], **environment)
    return json.loads(done.stdout.splitlines()[-1])


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
