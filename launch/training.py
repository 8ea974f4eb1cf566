"""A training command: checked, started, watched and stopped, and what it left read."""

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.command_line import LaunchError
from launch.devices import Place
from launch.together import Variable

_PR_SET_PDEATHSIG = 1  # prctl(2): the signal a process gets when its parent dies


def field_flags(fields: Mapping[str, Any]) -> list[str]:
    """Returns config fields as flags of the training command.

    >>> field_flags({"optim.learning_rate": 0.1, "model.dropout": None})
    ['--config.optim.learning_rate=0.1', '--config.model.dropout=none']
    """

    def text(value: Any) -> str:
        return str(value).lower() if value is None or isinstance(value, bool) else str(value)

    return [f"--config.{name}={text(value)}" for name, value in fields.items()]


def check(arguments: Sequence[str]) -> dict[str, Any]:
    """Returns the complete config of a training command's arguments, which trains nothing.

    Raises:
      LaunchError: the training command would refuse them.
    """
    return check_together(arguments)[0]


def check_together(
    arguments: Sequence[str], variants: Sequence[Mapping[str, Any]] = ()
) -> tuple[dict[str, Any], Variable]:
    """Returns as `check` does, and in what runs that are trained together may differ.

    Raises:
      LaunchError: as `check` does, or the command would refuse them with the fields of one of the
        variants set as well.
    """
    also = [f"--also={shlex.join(field_flags(fields))}" for fields in variants]
    said = said_by("experiments.train", *arguments, "--check", "--variable", *also)
    config, *_, variable = map(json.loads, said.splitlines())
    names = variable["variable"], variable["all_or_none"]
    return config, Variable(*map(frozenset, names))


def said_by(module: str, *arguments: str) -> str:
    """Returns what a command prints.

    Raises:
      LaunchError: it fails; the message is its last line.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LaunchError(_last_line(done.stderr).removeprefix("error: "))
    return done.stdout


def is_population(config: Mapping[str, Any]) -> bool:
    """Tells whether a complete config trains several members in one run."""
    return any(config["population"].get(name) for name in ("seeds", "values", "halving"))


class Training:
    """`python -m experiments.train` under way in a process of its own.

    On Linux it is stopped, with a checkpoint, when the process that started it ends, however that
    ends; elsewhere it then goes on.

    Args:
      arguments: of the command.
      workdir: the run directory.
      log: the file that gets what the command says; without one it goes to this terminal, and
        Ctrl-C there to the command as well.
      place: the devices or cores to use; any by default.
      keep: file descriptors that stay open in the process.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        workdir: Path,
        *,
        log: Path | None = None,
        place: Place | None = None,
        keep: Sequence[int] = (),
    ):
        self._log, self._stopping = log, False
        place = place or Place()
        command = [sys.executable, "-m", "experiments.train", *arguments, f"--workdir={workdir}"]
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
        with open(log or os.devnull, "a") as file:
            output = file if log else None
            self._begin = file.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **place.environment},
                pass_fds=keep,
                start_new_session=log is not None,
                preexec_fn=lambda: _prepare(place.cpus),
            )

    def poll(self) -> int | None:
        """Returns the exit code, None while it runs; below zero it was ended by that signal."""
        return self._process.poll()

    def wait(self) -> int:
        """Returns the exit code when there is one."""
        return self._process.wait()

    def stop(self) -> None:
        """Asks it to save and end; a second time does nothing, for it would kill it."""
        if not self._stopping and self.poll() is None:
            self._stopping = True
            self._process.send_signal(signal.SIGTERM)

    def last_words(self) -> str:
        """Returns the last line it logged, which says why where it has failed."""
        with open(self._log, errors="replace") as file:
            file.seek(self._begin)
            return _last_line(file.read()).removeprefix("error: ")


def check_seeds(config: Mapping[str, Any], count: int) -> None:
    """Raises LaunchError if so many seeds, from the config's on, go beyond what a seed can be."""
    last = config["seed"] + count - 1
    if last >= 2**32:
        raise LaunchError(
            f"--seeds={count} from seed {config['seed']} on ends with {last}; seeds must be below "
            "2**32"
        )


def read_result(workdir: Path) -> dict[str, Any] | None:
    """Returns the `result.json` of a run directory, None while there is none."""
    path = workdir / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _prepare(cpus: Sequence[int]) -> None:
    """In the new process, before the command: what it runs on, and that it ends with its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if cpus:
            os.sched_setaffinity(0, cpus)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
