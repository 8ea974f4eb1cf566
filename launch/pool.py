"""Drives a sweep's workers in one loop, and leaves the results when they are done or stopped."""

import contextlib
import json
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy.exc import SQLAlchemyError

from launch import results
from launch.command_line import LaunchError
from launch.devices import Place
from launch.page import write_page
from launch.searching import PRUNERS
from launch.storage import check_workdir, open_storage, open_study
from launch.table import Display, line
from launch.trials import Settings, Trials
from launch.worker import Say, work

_POLL, _DRAW = 0.1, 1.0  # seconds
_ELSEWHERE = ("devices", "parallel")  # where and how a run computes, not what
_LOST = (optuna.exceptions.StorageInternalError, SQLAlchemyError)


def open_trials(
    settings: Settings,
    *,
    storage: str = "",
    study: str = "",
    pruner: str = "none",
    grace: int = 120,
) -> Trials:
    """Returns the trials of a sweep that is begun, or that goes on.

    Args:
      settings: what it is.
      storage: where Optuna keeps it, see `launch.storage.open_storage`.
      study: its name there; the config's by default.
      pruner: the name of what ends trials early.
      grace: seconds of silence after which, in a database, a trial is given back.

    Raises:
      LaunchError: the storage can't be used, or holds another sweep.
    """
    _make_workdir(settings.workdir)
    kept = open_storage(storage, settings.workdir, grace=grace)
    name = study or settings.config["name"] or "sweep"
    try:
        check_workdir(kept, name, settings.workdir)
        opened = open_study(
            kept,
            name,
            directions=[each.direction for each in settings.objectives],
            pruner=PRUNERS[pruner](),
            stamp=_stamp(settings),
        )
        return Trials(settings, opened, kept)
    except _LOST as error:
        raise _unreachable(error) from error


def _make_workdir(workdir: Path) -> None:
    """Makes the directory; raises LaunchError if that or what is written later can't be there."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"{workdir} can't be made: {error.strerror}") from error
    for name in ("trials", "logs"):
        if (workdir / name).is_file():
            raise LaunchError(f"{workdir / name} is a file; give another --workdir")
    for name in ("trials.csv", "best.json", "sweep.html"):
        if (workdir / name).is_dir():
            raise LaunchError(f"{workdir / name} is a folder; give another --workdir")


def _stamp(settings: Settings) -> dict[str, Any]:
    """Returns what tells one sweep from another, as JSON has it."""
    config = {k: v for k, v in settings.config.items() if k not in _ELSEWHERE}
    config["data"] = {k: v for k, v in config["data"].items() if k != "dir"}
    stamp = {
        "config": config,
        "space": settings.space.description,
        "objectives": [str(each) for each in settings.objectives],
        "seeds": settings.seeds,
    }
    return json.loads(json.dumps(stamp))


def run(trials: Trials, where: Sequence[Place], command: str) -> None:
    """Lets a worker work at each place until the trials are finished, or a signal stops them.

    Raises:
      LaunchError: trials fail at once, one after the other, or the storage is lost. The other
        workers have been stopped with their checkpoints, and what was finished is kept.
    """
    try:
        with _stopped_by_signals(trials):
            with Display(trials) as display:
                failure = _drive(trials, where, display)
            if isinstance(failure, _LOST):
                raise failure
            leave_results(trials, command)
    except _LOST as error:
        raise _unreachable(error) from error
    if failure:
        raise failure
    if not trials.stopping and not results.best_trials(trials.study, trials.settings.objectives):
        trials.give_up()


def _drive(trials: Trials, where: Sequence[Place], display: Display) -> Exception | None:
    """Returns what has stopped the workers, if it was no signal."""
    failure: Exception | None = None
    workers = [work(trials, place, _teller(trials, display)) for place in where]
    drawn = 0.0
    while workers:
        for worker in list(workers):
            try:
                next(worker)
            except StopIteration:
                workers.remove(worker)
            except (LaunchError, *_LOST) as error:
                failure, trials.stopping = failure or error, True
                workers.remove(worker)
        with contextlib.suppress(*_LOST):
            trials.beat()
            if time.monotonic() >= drawn + _DRAW:
                display.refresh()
                drawn = time.monotonic()
        if workers:
            time.sleep(_POLL)
    return failure


def _teller(trials: Trials, display: Display) -> Say:
    """Returns what prints a worker's lines; a finished trial's says what it has reached."""

    def say(text: str, finished: int | None = None) -> None:
        if finished is not None:
            trial = trials.study.get_trials(deepcopy=False)[finished]
            text = f"trial {finished}: {line(trial, trials.settings.objectives)}"
            results.write(trials.settings.workdir, trials.study, trials.settings.objectives)
        display.say(text)

    return say


@contextlib.contextmanager
def _stopped_by_signals(trials: Trials) -> Iterator[None]:
    """The first SIGINT or SIGTERM stops the workers, with checkpoints; a second ends at once."""
    both = (signal.SIGINT, signal.SIGTERM)

    def handle(number: int, _: object) -> None:
        trials.stopping = True
        for each in both:
            signal.signal(each, signal.SIG_DFL)

    before = {each: signal.signal(each, handle) for each in both}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def leave_results(trials: Trials, command: str) -> None:
    """Writes the table, the best config and the page."""
    workdir, objectives = trials.settings.workdir, trials.settings.objectives
    results.write(workdir, trials.study, objectives)
    write_page(workdir / "sweep.html", trials.study, objectives, command)


def _unreachable(error: Exception) -> LaunchError:
    reason = str(error.__cause__ or error).strip().splitlines()[0]
    return LaunchError(f"the storage can't be reached: {reason}; finished trials are kept")
