"""A worker: takes one trial after the other, trains it, and says how it went.

Workers are generators that yield while their training process runs, so that one loop drives all.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator

from optuna.trial import TrialState

from cnn_jax.metric_rows import METRICS, read_rows
from launch.command_line import STOPPED, LaunchError
from launch.devices import Place
from launch.jobs import Diverged, Job, Member, plan, record, rows_so_far, trained_config
from launch.training import Training, read_result
from launch.trials import Point, Trials

Say = Callable[..., None]  # say(text), say(text, finished=number of the trial)


def work(trials: Trials, place: Place, say: Say) -> Iterator[None]:
    """Works until the trials are finished, or to be stopped.

    Raises:
      LaunchError: trials fail at once, one after the other.
    """
    while not trials.stopping:
        points = trials.ask()
        if not points:
            if trials.finished():
                return
            yield
            continue
        with contextlib.ExitStack() as locks:
            for point in points:
                locks.enter_context(point.lock)
            alone = len(points) == 1
            done_before = alone and (yield from _as_its_twin(trials, points[0], say))
            if not done_before:
                yield from attempt(trials, points, place, say)


def _as_its_twin(trials: Trials, point: Point, say: Say) -> Generator[None, None, bool]:
    """Waits for an earlier trial of the same point; returns whether it is settled by that."""
    while (twin := trials.twin(point)) and twin.state == TrialState.RUNNING:
        if trials.stopping:
            trials.give_back(point)
            return True
        yield
    if twin:
        trials.same_as(point, twin)
        say(f"trial {point.number}: the same point as trial {twin.number}")
    return twin is not None


def attempt(
    trials: Trials, points: list[Point], place: Place, say: Say
) -> Generator[None, None, None]:
    """Trains a group of points, or what is left of it, and settles their trials."""
    jobs = plan(points, trials.settings)
    whole = len(points) == len(points[0].group.homes)
    if not whole and any(read_result(job.workdir) is None for job in jobs):
        yield from _apart(trials, points, place, say)
        return
    runs: dict[int, list] = {point.number: [] for point in points}
    configs: dict[int, dict] = {}
    for job in jobs:
        going = [point for point in points if point.number in runs]
        if going and read_result(job.workdir) is None:
            well = yield from _train(trials, going, job, place, say)
            if not well:
                return
        not_worthwhile(trials, job)  # too late for it, but its curve is kept
        for member in job.members:
            _settle_run(trials, job, member, runs, configs, say)
    for point in points:
        if point.number in runs:
            trials.complete(point, runs[point.number], configs[point.number])
            say(f"trial {point.number}: finished", finished=point.number)


def _settle_run(
    trials: Trials, job: Job, member: Member, runs: dict, configs: dict, say: Say
) -> None:
    """Notes what a run has reached; if that is nothing its trial has failed."""
    number = member.point.number
    if number not in runs:  # another of its runs has failed
        return
    try:
        runs[number].append(record(job, member, trials.settings.objectives))
        configs.setdefault(number, trained_config(member))
    except LaunchError as error:
        del runs[number]
        _fail(trials, member.point, str(error), say, at_once=not isinstance(error, Diverged))


def _apart(
    trials: Trials, points: list[Point], place: Place, say: Say, *, all_others: bool = False
) -> Generator[None, None, None]:
    """Trains each run of some points alone, since together they can't be."""
    trials.part(points, all_others=all_others)
    for point in points:
        if trials.stopping:
            trials.give_back(point)
        else:
            yield from attempt(trials, [point], place, say)


def _train(
    trials: Trials, points: list[Point], job: Job, place: Place, say: Say
) -> Generator[None, None, bool]:
    """Runs a job's command to its end; returns whether it ended well, else settles the points."""
    keep = [point.lock.fileno() for point in points]
    if job.runs > 1:
        where = job.workdir.relative_to(trials.settings.workdir)
        say(f"{_named(points)}: {job.runs} runs are trained together in {where}")
    training = Training(job.arguments, job.workdir, log=job.log, place=place, keep=keep)
    pruned = False
    while (code := training.poll()) is None:
        pruned = pruned or not_worthwhile(trials, job)
        if trials.stopping or pruned:
            training.stop()
        yield
    if code == 0:
        return True
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
        yield from _failed(trials, points, job, training.last_words(), place, say)
    return False


def _failed(
    trials: Trials, points: list[Point], job: Job, said: str, place: Place, say: Say
) -> Generator[None, None, None]:
    """Settles points whose command has failed; those that share it may do better alone."""
    reason, at_once = said.replace(str(job.workdir), "DIR"), not read_rows(job.workdir / METRICS)
    if job.runs == 1:
        return _fail(trials, points[0], reason, say, at_once=at_once)
    say(f"{_named(points)}: together they failed, each run is tried alone: {reason}")
    yield from _apart(trials, points, place, say, all_others=at_once)


def not_worthwhile(trials: Trials, job: Job) -> bool:
    """Notes how far a job has come; returns whether it is to end: never by one of several runs."""
    objectives, first = trials.settings.objectives, trials.settings.config["seed"]
    by_curve = len(objectives) == 1 and objectives[0].by_validation
    prune = False
    for member, rows in zip(job.members, rows_so_far(job), strict=True):
        if rows and member.seed == job.members[0].seed:
            member.point.latest = {"seed": member.seed, **rows[-1]}
        if by_curve and member.seed == first:
            prune |= trials.should_prune(member.point, objectives[0].curve(rows))
    return prune and job.runs == 1


def _named(points: list[Point]) -> str:
    numbers = ", ".join(str(point.number) for point in points)
    return f"trial{'s' if len(points) > 1 else ''} {numbers}"


def _fail(trials: Trials, point: Point, reason: str, say: Say, *, at_once: bool) -> None:
    say(f"trial {point.number}: failed: {reason}")
    trials.fail(point, reason, at_once=at_once)
