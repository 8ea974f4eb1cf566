"""Where Optuna keeps a sweep: a journal file, or a database that several machines reach."""

import contextlib
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import IntegrityError, ProgrammingError

from launch.command_line import LaunchError
from launch.locks import one_at_a_time

JOURNAL = "journal.log"
_MAKING_TABLES = 5  # seconds that may take
_OPENING = b'{"op_code":'  # how each line of a journal begins
_STAMP = "sweep"  # the study's attribute that says what is swept


def check_journal(address: str, workdir: Path) -> None:
    """Raises LaunchError if the storage at an address is a file which is no journal."""
    path = Path(address) if address else workdir / JOURNAL
    if "://" in address or not path.is_file():
        return
    try:
        with open(path, "rb") as file:
            start = file.read(len(_OPENING))
    except OSError as error:
        raise LaunchError(f"{path} can't be read: {error.strerror}") from error
    if not _OPENING.startswith(start):
        raise LaunchError(f"{path} is no sweep's journal; name a new file with --storage=FILE")


def open_storage(address: str, workdir: Path, *, grace: int) -> optuna.storages.BaseStorage:
    """Returns the storage at an address: a database URL, or a file; the journal in `workdir`.

    In a database a trial whose worker gives no sign of life for `grace` seconds is given back.

    Raises:
      LaunchError: it can't be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    # Signs of life are given by launch.liveness.
    warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")
    try:
        if "://" in address:
            return _open_database(address, grace)
        path = Path(address) if address else workdir / JOURNAL
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _Lock(path.with_name(f".{path.name}.lock"))
        _cut_torn_line(path, lock)
        return optuna.storages.JournalStorage(JournalFileBackend(str(path), lock))
    except Exception as error:  # each database and driver has errors of its own
        reason = str(error).strip() or type(error).__name__
        where = _without_password(address) if address else str(workdir / JOURNAL)
        raise LaunchError(f"the storage {where} can't be used: {reason.splitlines()[0]}") from error


class _Lock:
    """A journal file's lock; Optuna's own outlive a process that is killed by half a minute."""

    def __init__(self, path: Path):
        self._path = path

    def acquire(self) -> bool:
        """Waits for the lock."""
        self._held = contextlib.ExitStack()
        self._held.enter_context(one_at_a_time(self._path))
        return True

    def release(self) -> None:
        """Gives it up."""
        self._held.close()


def _cut_torn_line(path: Path, lock: _Lock) -> None:
    """Cuts off a last line that a full disk has left without its end: Optuna would go on in it."""
    lock.acquire()
    try:
        content = path.read_bytes() if path.exists() else b""
        if content and not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _open_database(address: str, grace: int) -> optuna.storages.RDBStorage:
    options = {"connect_timeout": 10} if address.startswith("postgresql") else {}

    def connect() -> optuna.storages.RDBStorage:
        return optuna.storages.RDBStorage(
            address,
            engine_kwargs={"pool_pre_ping": True, "connect_args": options},
            heartbeat_interval=max(1, grace // 4),
            grace_period=grace,
            heartbeat_stale_trial_callback=ask_again,
        )

    for _ in range(_MAKING_TABLES):
        with contextlib.suppress(IntegrityError, ProgrammingError):
            return connect()
        time.sleep(1)  # another machine makes the tables at this moment
    return connect()


def open_study(
    storage: optuna.storages.BaseStorage,
    name: str,
    *,
    directions: list[str],
    pruner: optuna.pruners.BasePruner,
    stamp: Mapping[str, Any],
) -> optuna.Study:
    """Returns the study of that name, made if there is none.

    Raises:
      LaunchError: there is one, of another sweep.
    """
    try:
        study = optuna.create_study(
            study_name=name, storage=storage, directions=directions, pruner=pruner
        )
        study.set_user_attr(_STAMP, dict(stamp))
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage, pruner=pruner)
        there = study.user_attrs.get(_STAMP)
        if there is None:  # whoever made it was stopped before it could say what it is
            study.set_user_attr(_STAMP, dict(stamp))
        elif there != stamp:
            what = _difference(there, dict(stamp))
            raise LaunchError(
                f"the storage holds another sweep called {name}: {what}; "
                "give another --workdir, and in a database another --study"
            ) from None
    return study


def check_workdir(storage: optuna.storages.BaseStorage, name: str, workdir: Path) -> None:
    """Raises LaunchError where a study would begin among the runs of another.

    A trial's directory says its number alone, and what is finished there is taken for the trial's.
    """
    begun = name in optuna.get_all_study_names(storage)
    if not begun and next((workdir / "trials").glob("*"), None):
        raise LaunchError(
            f"{workdir} holds the runs of another sweep, or its journal is gone; "
            "give another --workdir"
        )


def ask_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Puts a failed trial into the queue once more, as a trial that goes on in its directory."""
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**_kept(trial), "again": trial.number, "home": home(trial)},
            system_attrs=dict(trial.system_attrs),
            intermediate_values=trial.intermediate_values,
        )
    )


def home(trial: FrozenTrial | optuna.Trial) -> int:
    """Returns the number of the trial in whose directory this one runs: its own, mostly."""
    return trial.user_attrs.get("home", trial.number)


def asked_for(trials: list[FrozenTrial]) -> int:
    """Returns how many trials were asked for; one that is in the queue again counts once."""
    return len(trials) - sum("again" in trial.user_attrs for trial in trials)


def _kept(trial: FrozenTrial) -> dict[str, Any]:
    return {name: value for name, value in trial.user_attrs.items() if name != "error"}


def _difference(there: Any, here: Any, path: str = "") -> str:
    """Returns in words the first difference of two nested dicts."""
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return f"{path} is {there!r} there, not {here!r}"
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    name = names[0]
    return _difference(there.get(name), here.get(name), f"{path}.{name}" if path else name)


def _without_password(address: str) -> str:
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else address
