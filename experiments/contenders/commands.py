"""Commands of Python run in processes of their own: how long each took and what it printed."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from cnn_jax.errors import InputError, RunError


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
