"""The directory of one run: what lies in it, made, locked and read."""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cnn_jax.config import (
    Config,
    differences,
    from_json,
    is_population,
    placement_fields,
    to_json,
)
from cnn_jax.data.spec import Spec
from cnn_jax.errors import InputError
from cnn_jax.metric_rows import METRICS
from cnn_jax.whole_files import write_json, write_text

CONFIG, RESULT, DATASET = "config.json", "result.json", "dataset.json"
NORMALIZATION, LOCK, MEMBERS = "normalization.npz", ".lock", "members"
_FILES = (CONFIG, RESULT, DATASET, METRICS, NORMALIZATION, LOCK)
_FOLDERS = ("checkpoints", "tensorboard", MEMBERS)


def check_run(workdir: Path, config: Config) -> None:
    """Raises InputError if `workdir` can't be written or holds a run of another config.

    Touches nothing that exists.
    """
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"the run directory {workdir} is a file; give another --workdir")
    ancestor = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise InputError(f"the run directory {workdir} is not writable; give another --workdir")
    _check_kinds(workdir)
    if not (workdir / CONFIG).exists():
        return
    changed = {
        name: values
        for name, values in differences(read_config(workdir), config).items()
        if name not in placement_fields(config)
    }
    if changed:
        fields = ", ".join(
            f"{name} is {old!r} there, not {new!r}" for name, (old, new) in changed.items()
        )
        raise InputError(f"{workdir} holds another run: {fields}; give another --workdir")


def _check_kinds(workdir: Path) -> None:
    """Raises InputError for a directory where a run has a file, or the other way round."""
    for name in (*_FILES, *_FOLDERS):
        path, wanted = workdir / name, "file" if name in _FILES else "directory"
        if path.exists() and path.is_dir() != (wanted == "directory"):
            raise InputError(f"{path} is in the way, it should be a {wanted}; move it elsewhere")


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes the run directory and holds it for this process; the lock ends with the process.

    Raises:
      InputError: it can't be made or written, or another process trains in it.
    """
    with _making(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open(workdir / LOCK, "a")  # noqa: SIM115 (closed below)
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another process trains in {workdir}; give another --workdir"
            ) from error
        yield


def create_run(workdir: Path, config: Config) -> None:
    """Makes the directory and writes the config into it.

    Raises:
      InputError: the directory can't be made or written.
    """
    with _making(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        write_text(workdir / CONFIG, to_json(config))


@contextlib.contextmanager
def _making(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"the run directory {workdir} is not writable: {reason}") from error


def new_directory(parent: Path) -> Path:
    """Returns a directory in `parent` that no other start takes: its name is the time."""
    return parent / datetime.now().strftime("%Y%m%d-%H%M%S-%f")


def read_config(workdir: Path) -> Config:
    """Returns the config of the run in `workdir`.

    Raises:
      InputError: there is none, or it can't be read.
    """
    path = workdir / CONFIG
    if not path.is_file():
        raise InputError(f"{workdir} is no run directory: it has no {CONFIG}")
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def is_of_run(path: Path) -> bool:
    """Tells whether a path is a file that a run needs, which no other command may write.

    What can be made anew, such as a report, is none.
    """
    path = path.resolve()
    above = [folder.parent for folder in path.parents if folder.name == "checkpoints"]
    runs = [*above, *([path.parent] if path.name in _FILES else [])]
    return any((run / CONFIG).is_file() for run in runs)


def member_directory(workdir: Path, number: int) -> Path:
    """Returns where member `number` of the population in `workdir` lies.

    >>> member_directory(Path("runs/p"), 3).as_posix()
    'runs/p/members/003'
    """
    return workdir / MEMBERS / f"{number:03d}"


def single_config(workdir: Path) -> Config:
    """Returns the config of the single run in `workdir`.

    Raises:
      InputError: there is none, it can't be read, or it is that of a population.
    """
    config = read_config(workdir)
    if is_population(config):
        example = member_directory(workdir, 0)
        raise InputError(f"{workdir} is a population; take one of its members, such as {example}")
    return config


def write_spec(workdir: Path, spec: Spec) -> None:
    """Writes what `read_spec` reads."""
    write_json(workdir / DATASET, dataclasses.asdict(spec))


def read_spec(workdir: Path) -> Spec:
    """Returns the facts of the data that the run in `workdir` was trained on.

    Raises:
      InputError: there are none, or they can't be read.
    """
    path = workdir / DATASET
    try:
        known = read_json(path)
        lists = {name: tuple(known[name]) for name in ("image_shape", "class_names")}
        return Spec(**(known | lists))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is missing or damaged; a run writes it when it starts") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns what a JSON file of a run holds, None if there is no such file.

    Raises:
      InputError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(value, dict):
        raise _damaged(path, "it should hold an object")
    return value


def _damaged(path: Path, reason: object) -> InputError:
    return InputError(
        f"{path} is damaged ({reason}); delete it and train again: the run goes on from its last "
        "checkpoint"
    )
