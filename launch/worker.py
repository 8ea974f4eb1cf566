"""A worker: takes one trial after the other, trains it, and says how it went.

Workers are generators that yield while their training process runs, so that one loop drives all.
"""

from collections.abc import Callable, Generator, Iterator

from optuna.trial import TrialState

from launch.command_line import STOPPED, LaunchError
from launch.devices import Place
from launch.jobs import Job, plan, record, trained_config
from launch.training import Training, read_result, read_rows
from launch.trials import Point, Trials

Say = Callable[..., None]  # say(text), say(text, finished=number of the trial)


def work(trials: Trials, place: Place, say: Say) -> Iterator[None]:
    """Works until the trials are finished, or to be stopped.

    Raises:
      LaunchError: trials fail at once, one after the other.
    """
    while not trials.stopping:
        point = trials.ask()
        if point is None:
            if trials.finished():
                return
            yield
            continue
        with point.lock:
            done_before = yield from _as_its_twin(trials, point, say)
            if not done_before:
                yield from attempt(trials, [point], place, say)


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
    """Trains points that were asked for together, and settles their trials."""
    settings = trials.settings
    runs: dict[int, list] = {point.number: [] for point in points}
    configs: dict[int, dict] = {}
    for job in plan(points, settings):
        if read_result(job.workdir) is None:
            well = yield from _train(trials, points, job, place, say)
            if not well:
                return
        _not_worthwhile(trials, job)  # too late for it, but its curve is kept
        try:
            for member in job.members:
                runs[member.point.number].append(record(job, member, settings.objectives))
                configs.setdefault(member.point.number, trained_config(member))
        except LaunchError as error:
            return _fail(trials, points, str(error), say, at_once=True)
    for point in points:
        trials.complete(point, runs[point.number], configs[point.number])
        say(f"trial {point.number}: finished", finished=point.number)


def _train(
    trials: Trials, points: list[Point], job: Job, place: Place, say: Say
) -> Generator[None, None, bool]:
    """Runs a job's command to its end; returns whether it ended well, else settles the points."""
    keep = [point.lock.fileno() for point in points]
    training = Training(job.arguments, job.workdir, log=job.log, place=place, keep=keep)
    pruned = False
    while (code := training.poll()) is None:
        pruned = pruned or _not_worthwhile(trials, job)
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
        say(f"trial {points[0].number}: its process was ended by signal {-code}; it goes on later")
        for point in points:
            trials.give_back(point, death=f"its process was ended by signal {-code}")
    else:
        reason = training.last_words().replace(str(job.workdir), "DIR")
        _fail(trials, points, reason, say, at_once=not read_rows(job.workdir))
    return False


def _not_worthwhile(trials: Trials, job: Job) -> bool:
    """Notes how far a job has come; returns whether its single point should be pruned."""
    rows = read_rows(job.workdir)
    if rows:
        for each in job.members:
            each.point.latest = {"seed": each.seed, **rows[-1]}
    member, *others = job.members
    objectives, first = trials.settings.objectives, trials.settings.config["seed"]
    if others or len(objectives) > 1 or not objectives[0].by_validation or member.seed != first:
        return False
    return trials.should_prune(member.point, objectives[0].curve(rows))


def _fail(trials: Trials, points: list[Point], reason: str, say: Say, *, at_once: bool) -> None:
    for point in points:
        say(f"trial {point.number}: failed: {reason}")
        trials.fail(point, reason, at_once=at_once)
