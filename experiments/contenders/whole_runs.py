"""Whole commands in turns: how long each took, and how well it did."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from cnn_jax.cpus import usable_cpus
from cnn_jax.errors import InputError, RunError
from experiments.contenders import OURS, PEERS
from experiments.contenders.rounds import median_range


class Turn(NamedTuple):
    """What one process did."""

    seconds: float
    test_accuracy: float


def timed(command: Sequence[str], **environment: str) -> tuple[float, subprocess.CompletedProcess]:
    """Returns how long `python -m COMMAND` took, and what it was and printed.

    Raises:
      InputError: it refused its input; the message is its own.
      RunError: it failed; the message ends with the last line it said.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["nothing was said"]
        refused = [line for line in lines if line.startswith("error: ")]
        if done.returncode == 2 and refused:
            raise InputError(refused[0].removeprefix("error: "))
        raise RunError(f"{command[0]} ended with code {done.returncode}: {lines[-1]}")
    return seconds, done


def require(peer: str) -> None:
    """Raises InputError unless the peer's packages are installed."""
    if missing := PEERS[peer].missing():
        raise InputError(f"{missing[0]} is not installed: python -m pip install -e '.[peers]'")


def record(name: str, turns: dict[str, list[Turn]]) -> dict[str, Any]:
    """Returns what the turns of one contender amount to, beside ours of the same rounds."""
    ratios = [b.seconds / a.seconds for a, b in zip(turns[OURS], turns[name], strict=True)]
    return {
        "contender": name,
        **median_range("seconds", [turn.seconds for turn in turns[name]]),
        **median_range("test_accuracy", [turn.test_accuracy for turn in turns[name]]),
        **median_range("this_over_ours", ratios),
        "rounds": len(turns[name]),
        "cpus": usable_cpus(),
    }
