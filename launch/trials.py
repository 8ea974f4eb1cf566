"""Trials are handed out and taken back: asked for, given back, pruned, failed, finished."""

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from launch import locks
from launch.command_line import LaunchError
from launch.liveness import Liveness
from launch.objectives import Objective
from launch.searching import ADAPTIVE, SAMPLERS
from launch.space import Space, grid
from launch.storage import ask_again, asked_for, home
from launch.together import Group, Variable, shared_seeds

_LOOK_AHEAD = 4  # trials to look at for each that can be trained together with others
_MOST_DEATHS = 3  # of one trial: it may be what kills them, by the memory it takes


@dataclass(frozen=True)
class Settings:
    """What a sweep is.

    `arguments` go to every training command, `config` is what they make; `trials` is how many
    points there will be; after `failures` trials in a row that fail at once, the sweep stops. At
    most `together` runs share a training command, if they differ in nothing but `variable` fields.
    """

    arguments: tuple[str, ...]
    config: Mapping[str, Any]
    space: Space
    objectives: tuple[Objective, ...]
    seeds: int
    trials: int
    sampler: str
    workdir: Path
    failures: int = 3
    together: int = 1
    variable: Variable = field(default_factory=Variable)


@dataclass
class Point:
    """A trial that is ours: the fields it sets, its lock, and how far it has come.

    `group` says with which others it is trained, None before that is settled.
    """

    trial: optuna.Trial
    fields: Mapping[str, Any]
    lock: TextIO
    home: int
    reported: int
    group: Group | None = None
    latest: dict[str, Any] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """The trial's number."""
        return self.trial.number


class Trials:
    """The trials of a sweep, as this process hands them out to its workers.

    Attributes:
      running: ours, by number.
      stopping: whether the workers should save and end.
      together: at most so many runs that haven't begun share a command.
    """

    def __init__(
        self, settings: Settings, study: optuna.Study, storage: optuna.storages.BaseStorage
    ):
        self.settings, self.study, self._storage = settings, study, storage
        self.running: dict[int, Point] = {}
        self.stopping, self.together = False, settings.together
        self._pruned = not isinstance(study.pruner, optuna.pruners.NopPruner)
        self._in_a_row: list[tuple[int, str]] = []
        self._liveness = Liveness(settings.workdir, study, storage)
        if settings.sampler == "grid":
            self._queue_grid()

    def _queue_grid(self) -> None:
        """Queues the points of the grid that were never in the queue, up to `trials` in all."""
        with self._exclusively():
            trials = self.study.get_trials(deepcopy=False)
            there = {repr(trial.system_attrs.get("fixed_params")) for trial in trials}
            points = [p for p in grid(self.settings.space) if repr(p) not in there]
            for point in points[: max(0, self.settings.trials - asked_for(trials))]:
                self.study.enqueue_trial(point)

    def ask(self) -> list[Point]:
        """Returns the next trials to run, a group; none if there are none now.

        Of a group that was begun before, those may be missing that have finished.
        """
        with self._exclusively():
            self._liveness.take_back_orphans()
            first = self._first()
            if first is None:
                return []
            if first.group:
                return sorted([first, *self._take_others(first)], key=_place)
            seeds = shared_seeds(
                self.settings.config["seed"],
                self.settings.seeds,
                most=self.together,
                pruned=self._pruned,
            )
            points = [first, *self._companions(first)]
            group = Group(tuple(point.home for point in points), seeds)
            for point in points:
                self._join(point, group)
            return points

    def _first(self) -> Point | None:
        """Returns the next trial, not one of a group that somebody is giving back one by one."""
        held = []
        while (point := self._next()) and self._others(point, TrialState.RUNNING):
            held.append(point)
        for each in held:
            self._release(each)
        return point

    def _next(self) -> Point | None:
        trials = self.study.get_trials(deepcopy=False)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if not waiting and asked_for(trials) >= self.settings.trials:
            return None
        self.study.sampler = SAMPLERS[self.settings.sampler](len(trials))
        return self._open(self.study.ask())

    def _open(self, trial: optuna.Trial) -> Point:
        lock = self._liveness.hold(trial)
        fields = self.settings.space(trial)
        reported = len(trial.storage.get_trial(trial._trial_id).intermediate_values)
        kept = trial.user_attrs.get("group")
        group = Group.from_json(kept) if kept else None
        point = Point(trial, fields, lock, home(trial), reported, group)
        self.running[point.number] = point
        return point

    def _others(self, point: Point, state: TrialState) -> list[FrozenTrial]:
        """Returns the other trials of a point's group, if it has one, that are in a state."""
        if point.group is None:
            return []
        trials, kept = self.study.get_trials(deepcopy=False, states=(state,)), point.group.to_json()
        alike = [trial for trial in trials if trial.user_attrs.get("group") == kept]
        return [trial for trial in alike if trial.number != point.number]

    def _take_others(self, first: Point) -> list[Point]:
        points = []
        for trial in self._others(first, TrialState.WAITING):
            self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            points.append(self._open(optuna.Trial(self.study, trial._trial_id)))
        return points

    def _companions(self, first: Point) -> list[Point]:
        """Returns new trials that can be trained together with one, as many as may be.

        Those asked for in vain wait in the queue.
        """
        most = 1 if self._pruned else self.together // self.settings.seeds
        program, points, strangers = self.settings.variable.program(first.fields), [first], []
        if not self.settings.variable.numbers(first.fields) or self.twin(first):
            return []
        adaptive = self.settings.sampler in ADAPTIVE
        for _ in range((most - 1) * (1 if adaptive else _LOOK_AHEAD)):
            if len(points) == most or (point := self._next()) is None:
                break
            fits = self.settings.variable.program(point.fields) == program
            fits = fits and point.group is None and not self.twin(point)
            fits = fits and all(point.fields != other.fields for other in points)
            (points if fits else strangers).append(point)
        for point in strangers:
            self._release(point)
        return points[1:]

    def _join(self, point: Point, group: Group) -> None:
        point.group = group
        point.trial.set_user_attr("group", group.to_json())

    def separate(self, points: Sequence[Point]) -> None:
        """Has each run of these trials trained alone from now on."""
        for point in points:
            self._join(point, point.group.apart(point.home))

    def finished(self) -> bool:
        """Whether nothing is left to do, by anybody."""
        open_states = (TrialState.WAITING, TrialState.RUNNING)
        return not self.study.get_trials(deepcopy=False, states=open_states)

    def beat(self) -> None:
        """Gives a sign of life for every trial of ours, when it is time for one."""
        self._liveness.beat(point.trial for point in self.running.values())

    def twin(self, point: Point) -> FrozenTrial | None:
        """Returns the earlier trial of the same point, if one is running or has finished."""
        alike = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        for trial in self.study.get_trials(deepcopy=False, states=alike):
            if trial.number < point.number and trial.params == point.trial.params:
                return trial
        return None

    def should_prune(self, point: Point, values: Sequence[float]) -> bool:
        """Reports what is new of a trial's curve; returns whether it isn't worth going on."""
        new = range(point.reported, len(values))
        for i in new:
            point.trial.report(values[i], i)
        point.reported = max(point.reported, len(values))
        return bool(new) and point.trial.should_prune()

    def complete(
        self, point: Point, runs: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
    ) -> None:
        """Finishes a trial; each of its values is the mean over its runs."""
        values = [statistics.fmean(run[o.name] for run in runs) for o in self.settings.objectives]
        self._tell(point, TrialState.COMPLETE, values, runs=list(runs), config=dict(config))
        self._in_a_row = []

    def same_as(self, point: Point, twin: FrozenTrial) -> None:
        """Finishes a trial as its twin has finished."""
        attributes = {k: v for k, v in twin.user_attrs.items() if k in ("runs", "config")}
        values = twin.values if twin.state == TrialState.COMPLETE else None
        self._tell(point, twin.state, values, same_as=twin.number, **attributes)

    def prune(self, point: Point) -> None:
        """Finishes a trial that isn't worth going on with."""
        self._tell(point, TrialState.PRUNED)
        self._in_a_row = []

    def give_back(self, point: Point, *, death: str | None = None) -> None:
        """Puts a trial back into the queue, to go on from its checkpoint.

        A `death` is why its process ended; a trial that dies again and again has failed. One that
        died so with others is tried alone before.
        """
        deaths = point.trial.user_attrs.get("deaths", 0) + (death is not None)
        if deaths >= _MOST_DEATHS and point.group.runs == 1:
            return self.fail(point, f"{death}, {deaths} times", at_once=False)
        with contextlib.suppress(UpdateFinishedTrialError):
            if deaths >= _MOST_DEATHS:
                deaths = 0
                self.separate([point])
            if death:
                point.trial.set_user_attr("deaths", deaths)
        with self._exclusively():
            self._release(point)

    def _release(self, point: Point) -> None:
        del self.running[point.number]
        point.lock.close()
        with contextlib.suppress(UpdateFinishedTrialError):
            self._storage.set_trial_state_values(point.trial._trial_id, TrialState.WAITING)

    def fail(self, point: Point, reason: str, *, at_once: bool) -> None:
        """Finishes a trial that failed.

        Raises:
          LaunchError: it and those before it failed at once, for the same reason: then it isn't
            the points that are bad. They are put into the queue again.
        """
        self._tell(point, TrialState.FAIL, error=reason)
        if not at_once or any(said != reason for _, said in self._in_a_row):
            self._in_a_row = []
        if at_once:
            self._in_a_row.append((point.number, reason))
        if len(self._in_a_row) >= self.settings.failures:
            self.give_up()

    def give_up(self) -> None:
        """Puts the trials that failed one after the other, if any, into the queue again.

        Raises:
          LaunchError: there are such trials; says why they failed.
        """
        if not self._in_a_row:
            return
        numbers = [number for number, _ in self._in_a_row]
        trials = self.study.get_trials(deepcopy=False)
        for number in numbers:
            ask_again(self.study, trials[number])
        reason, self._in_a_row = self._in_a_row[0][1], []
        raise LaunchError(
            f"{len(numbers)} trial{'s' if len(numbers) > 1 else ''} in a row failed at once: "
            f"{reason} (see {self.settings.workdir / 'logs'}). Finished trials are kept; when that "
            "is mended the same command goes on"
        )

    def _tell(
        self,
        point: Point,
        state: TrialState,
        values: Sequence[float] | None = None,
        **attributes: Any,
    ) -> None:
        self.running.pop(point.number, None)
        with contextlib.suppress(UpdateFinishedTrialError):  # taken from us, for our silence
            for name, value in attributes.items():
                point.trial.set_user_attr(name, value)
            self.study.tell(point.trial, values, state, skip_if_finished=True)

    def _exclusively(self) -> contextlib.AbstractContextManager[None]:
        return locks.one_at_a_time(self.settings.workdir / ".asking.lock")


def _place(point: Point) -> int:
    return point.group.homes.index(point.home)
