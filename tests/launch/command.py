"""Runs launch commands as a user does; many command lines in forks of one process."""

import os
import subprocess
import sys

from tests.forks import ROOT, answers


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "JAX_PLATFORMS": "cpu"}


def run_all(name, command_lines, *, cwd):
    """Returns the answers of `python -m launch.NAME` to many command lines, lists of arguments."""
    return [*answers(f"launch.{name}", command_lines, cwd=cwd, environment=environment())]


def start(name, *arguments, cwd, **options):
    """Starts `python -m launch.NAME ARGUMENTS` and returns the process."""
    return subprocess.Popen(
        [sys.executable, "-m", f"launch.{name}", *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
