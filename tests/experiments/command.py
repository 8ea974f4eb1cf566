"""Runs the commands as a user does, in processes of their own."""

import json
import os
import subprocess
import sys

from tests.forks import ROOT, Answer, answers


def _environment():
    """One device, as on a user's machine without accelerators."""
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    changed = {"XLA_FLAGS": " ".join(flags), "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return {**os.environ, **changed}


def start(name, *arguments, cwd, stdin=False, stdout=subprocess.PIPE):
    """Starts `python -m experiments.NAME ARGUMENTS`, its stdin a pipe if asked for."""
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{name}", *arguments],
        cwd=cwd,
        env=_environment(),
        stdin=subprocess.PIPE if stdin else None,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    return Answer(process.returncode, out, err)


def run(name, *arguments, cwd):
    """Runs `python -m experiments.NAME ARGUMENTS` to its end."""
    return finish(start(name, *arguments, cwd=cwd))


def run_all(name, command_lines, *, cwd):
    """Returns the answers of one command to many command lines, lists of arguments."""
    environment = _environment()
    return [*answers(f"experiments.{name}", command_lines, cwd=cwd, environment=environment)]


# Processes of one run: started together, each with its own arguments and environment. They take one
# without a sign of life for dead sooner than a user's do.
TOGETHER = """
import json, os, sys
from cnn_jax.training import processes
from experiments import command_line, train

processes.HEARTBEAT_SECONDS = 10
pids, devices = [], sys.argv[2]
for i, (argv, environment) in enumerate(json.loads(sys.argv[1])):
    pids.append(os.fork())
    if not pids[-1]:
        os.dup2(os.open(f"{i}.err", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644), 2)
        os.environ.update(environment)
        os.environ["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
        sys.argv[:] = [train.__file__, *argv]
        command_line.run(train.main)
        os._exit(0)
print(json.dumps(pids), flush=True)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]))
"""


class Together:
    """`python -m experiments.train` in several processes, each with (arguments, environment)."""

    def __init__(self, command_lines, *, devices, cwd):
        self._cwd = cwd
        self._parent = subprocess.Popen(
            [sys.executable, "-c", TOGETHER, json.dumps(command_lines), str(devices)],
            cwd=cwd,
            env=_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pids = json.loads(self._parent.stdout.readline())

    def running(self):
        return self._parent.poll() is None

    def finish(self, timeout=300):
        """Returns the exit codes and what each process wrote to stderr."""
        out, _ = self._parent.communicate(timeout=timeout)
        texts = [(self._cwd / f"{i}.err").read_text() for i in range(len(self.pids))]
        return json.loads(out), texts


def contents(directory):
    """Returns {path: (time of change, bytes)} of all that a directory holds."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(directory.rglob("*"))
    }
