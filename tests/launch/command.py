"""Runs launch commands as a user does; many command lines in forks of one process."""

import json
import os
import subprocess
import sys

from tests.experiments.command import ROOT, Answer

# As tests.experiments.command does it for the commands there.
_FORKS = """
import importlib, json, os, sys, tempfile
from launch import command_line
module = importlib.import_module(sys.argv[1])

def answer(argv):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv[:] = [module.__file__, *argv]
            code = 1
            try:
                command_line.run(module.main)
                code = 0
            except SystemExit as end:
                code = end.code or 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()

print(json.dumps([answer(argv) for argv in json.load(sys.stdin)]))
"""


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "JAX_PLATFORMS": "cpu"}


def run_all(name, command_lines, *, cwd):
    """Returns the answers of `python -m launch.NAME` to many command lines, lists of arguments."""
    answers = subprocess.run(
        [sys.executable, "-c", _FORKS, f"launch.{name}"],
        cwd=cwd,
        env=environment(),
        input=json.dumps(command_lines),
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    return [Answer(*answer) for answer in json.loads(answers.stdout)]


def start(name, *arguments, cwd):
    """Starts `python -m launch.NAME ARGUMENTS` and returns the process."""
    return subprocess.Popen(
        [sys.executable, "-m", f"launch.{name}", *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
