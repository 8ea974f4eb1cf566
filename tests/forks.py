"""Many command lines in one process's forks: what commands import is imported once a session."""

import atexit
import functools
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
# What the commands of a package import, at the latest when they need it.
PRELOADED = {
    "experiments": (
        "experiments.command_line",
        "cnn_jax.analysis.run_report",
        "cnn_jax.data.sources.digits",
        "cnn_jax.training.population.run",
        "tensorboardX",
    ),
    "launch": ("launch.command_line", "launch.pool", "launch.results"),
}
SECONDS = 300  # that a command may take


class Answer(NamedTuple):
    code: int
    out: str
    err: str


def answers(command, command_lines, *, cwd, environment):
    """Returns the Answers of `python -m PACKAGE.NAME` to command lines, each in a fork."""
    package = command.partition(".")[0]
    server = _server(package)
    for argv in command_lines:
        asked = {"command": command, "argv": argv, "cwd": str(cwd), "environment": environment}
        print(json.dumps(asked), file=server.stdin, flush=True)
        yield Answer(*json.loads(server.stdout.readline()))


@functools.cache
def _server(package):
    """Starts the process that forks; the settings that jax reads on import are those of now."""
    server = subprocess.Popen(
        [sys.executable, __file__, package],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.communicate)  # its end follows that of its input
    return server


def _serve(package):
    sys.path[0] = ""  # the working directory, as after `python -m`
    for module in PRELOADED[package]:
        importlib.import_module(module)
    run = importlib.import_module(f"{package}.command_line").run
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(_answer(run, **json.loads(line))), flush=True)


def _answer(run, command, argv, cwd, environment):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(environment)
            signal.alarm(SECONDS)
            _run(run, command, argv)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()


def _run(run, command, argv):
    """Runs a command and ends the process with its code, as Python would."""
    code = 1
    try:
        module = importlib.import_module(command)
        sys.argv[:] = [module.__file__, *argv]
        run(module.main)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
