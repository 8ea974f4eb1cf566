"""A worker: takes one trial after the other, trains it, and says how it went.

Workers are generators that yield while their training process runs, so that one loop drives all.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator

from optuna.trial import TrialState

from cnn_jax.metric_rows import METRICS, read_rows
from launch.command_line import STOPPED, LaunchError
from launch.devices import Place
from launch.training import Training, read_result
from launch.trial_commands import (
    Command,
    Diverged,
    Member,
    plan,
    record,
    rows_so_far,
    trained_config,
)
from launch.trials import Point, Trials

Say = Callable[..., None]  # say(text), say(text, finished=number of the trial)


def work(trials: Trials, place: Place, say: Say) -> Iterator[None]:
    """Works until the trials are finished, or to be stopped.

    Raises:
      LaunchError: trials fail at once, one after the other.
    """
    while not trials.stopping:
        if points := trials.ask():
            with contextlib.ExitStack() as locks:
                for point in points:
                    locks.enter_context(point.lock)
                yield from _settle(trials, points, place, say)
        elif trials.finished():
            return
        else:
            yield


def _settle(trials: Trials, points: list[Point], place: Place, say: Say) -> Iterator[None]:
    """Trains a group of points together, and those alone for which that is impossible."""
    if len(points) == 1 and (yield from _as_its_twin(trials, points[0], say)):
        return
    alone = yield from _attempt(trials, points, place, say)
    for point in alone:
        if trials.stopping:
            trials.give_back(point)
        else:
            yield from _attempt(trials, [point], place, say)


def _as_its_twin(trials: Trials, point: Point, say: Say) -> Generator[None, None, bool]:
    """Waits for an earlier trial of the same point; returns whether that settles this one."""
    while (twin := trials.twin(point)) and twin.state == TrialState.RUNNING:
        if trials.stopping:
            trials.give_back(point)
            return True
        yield
    if twin:
        trials.same_as(point, twin)
        say(f"trial {point.number}: the same point as trial {twin.number}")
    return twin is not None


def _attempt(
    trials: Trials, points: list[Point], place: Place, say: Say
) -> Generator[None, None, list[Point]]:
    """Trains a group of points, or what is left of it, and settles their trials.

    Returns the points that are still to be trained, each of their runs alone.
    """
    commands = plan(points, trials.settings)
    whole = len(points) == len(points[0].group.homes)
    if not whole and any(read_result(command.workdir) is None for command in commands):
        trials.separate(points)
        return points
    runs: dict[int, list] = {point.number: [] for point in points}
    configs: dict[int, dict] = {}
    for command in commands:
        going = [point for point in points if point.number in runs]
        if going and read_result(command.workdir) is None:
            training, pruned = yield from _train(trials, going, command, place, say)
            if training.poll() != 0:
                return _settle_unfinished(trials, going, command, training, pruned, say)
        note_progress(trials, command)  # too late to prune, but the curve is kept
        for member in command.members:
            _settle_run(trials, command, member, runs, configs, say)
    for point in points:
        if point.number in runs:
            trials.complete(point, runs[point.number], configs[point.number])
            say(f"trial {point.number}: finished", finished=point.number)
    return []


def _settle_run(
    trials: Trials, command: Command, member: Member, runs: dict, configs: dict, say: Say
) -> None:
    """Notes what a run has reached; if that is nothing its trial has failed."""
    number = member.point.number
    if number not in runs:  # another of its runs has failed
        return
    try:
        runs[number].append(record(command, member, trials.settings.objectives))
        configs.setdefault(number, trained_config(member))
    except LaunchError as error:
        del runs[number]
        _fail(trials, member.point, str(error), say, at_once=not isinstance(error, Diverged))


def _train(
    trials: Trials, points: list[Point], command: Command, place: Place, say: Say
) -> Generator[None, None, tuple[Training, bool]]:
    """Runs a command until its process ends; returns it, and whether it was pruned."""
    keep = [point.lock.fileno() for point in points]
    if command.runs > 1:
        where = command.workdir.relative_to(trials.settings.workdir)
        say(f"{_named(points)}: {command.runs} runs are trained together in {where}")
    training = Training(command.arguments, command.workdir, log=command.log, place=place, keep=keep)
    pruned = False
    while training.poll() is None:
        pruned = pruned or note_progress(trials, command)
        if trials.stopping or pruned:
            training.stop()
        yield
    return training, pruned


def _settle_unfinished(
    trials: Trials,
    points: list[Point],
    command: Command,
    training: Training,
    pruned: bool,
    say: Say,
) -> list[Point]:
    """Settles points whose command did not reach its end; returns those to be tried alone now."""
    code = training.poll()
    if pruned:
        trials.prune(points[0])
        say(f"trial {points[0].number}: pruned")
    elif code == STOPPED or trials.stopping:
        for point in points:
            trials.give_back(point)
    elif code < 0:
        say(f"{_named(points)}: the process was ended by signal {-code}; it goes on later")
        for point in points:
            trials.give_back(point, death=f"its process was ended by signal {-code}")
    else:
        reason = training.last_words().replace(str(command.workdir), "DIR")
        at_once = not read_rows(command.workdir / METRICS)
        if command.runs > 1:
            say(f"{_named(points)}: together they failed, each run is tried alone: {reason}")
            trials.separate(points)
            if at_once:
                trials.together = 1  # others would fail so too
            return points
        _fail(trials, points[0], reason, say, at_once=at_once)
    return []


def note_progress(trials: Trials, command: Command) -> bool:
    """Notes how far a command's runs have come; returns whether to prune it.

    A command of several runs is never pruned: one of them alone can't be ended.
    """
    objectives, first = trials.settings.objectives, trials.settings.config["seed"]
    by_curve = len(objectives) == 1 and objectives[0].by_validation
    prune = False
    for member, rows in zip(command.members, rows_so_far(command), strict=True):
        if rows and member.seed == command.members[0].seed:
            member.point.latest = {"seed": member.seed, **rows[-1]}
        if by_curve and member.seed == first:
            prune |= trials.should_prune(member.point, objectives[0].curve(rows))
    return prune and command.runs == 1


def _named(points: list[Point]) -> str:
    numbers = ", ".join(str(point.number) for point in points)
    return f"trial{'s' if len(points) > 1 else ''} {numbers}"


def _fail(trials: Trials, point: Point, reason: str, say: Say, *, at_once: bool) -> None:
    say(f"trial {point.number}: failed: {reason}")
    trials.fail(point, reason, at_once=at_once)
