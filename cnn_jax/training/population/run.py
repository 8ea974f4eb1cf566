"""A population: many runs trained together, each as it would go alone."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from cnn_jax.config import Config, flatten, with_fields
from cnn_jax.errors import InputError, RunError
from cnn_jax.metric_rows import Row
from cnn_jax.models.registry import count_parameters
from cnn_jax.training.cadence import (
    checkpoint_is_due,
    evaluation_is_due,
    evaluations_every,
    steps_at_once,
)
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.metrics import merge
from cnn_jax.training.parallel import once_options
from cnn_jax.training.parameter_paths import path_name
from cnn_jax.training.population.directories import write_member
from cnn_jax.training.population.host_trees import on_host
from cnn_jax.training.population.members import (
    check_each,
    combinations,
    describe,
    differing,
    member_configs,
)
from cnn_jax.training.population.results import mean_row, summary
from cnn_jax.training.population.saved_states import recall, template, to_save
from cnn_jax.training.population.seats import Seats
from cnn_jax.training.population.standing import (
    DIVERGED,
    FINISHED,
    PATIENCE,
    Member,
    check_rungs,
    endings,
    rungs,
)
from cnn_jax.training.population.strategies import choose, without_flags
from cnn_jax.training.records import costs, introduction, outcome, position, train_means
from cnn_jax.training.session import Run, Session
from cnn_jax.training.setup import (
    Experiment,
    abstract_state,
    computed_parameters,
    source_variables,
    state_from,
    with_config,
)
from cnn_jax.training.state import Purpose, key_for
from cnn_jax.training.writers import Writers


def train_population(config: Config, workdir: Path, **options: Any) -> dict[str, Any]:
    """Trains, evaluates and returns as `train_and_evaluate` does, for all members of a population.

    `result.json` holds their results as `members`, and the means over those that were not dropped.
    Each member gets a run directory of its own in `workdir`/members, as if it had been alone.
    `options` are those of `train_and_evaluate`.

    Raises:
      InputError: also if the members can't be trained together.
      RunError: also if every member diverged.
    """
    member_configs(config)
    if config.parallel != "jit":
        raise InputError(f"parallel is {config.parallel}; a population takes jit")
    return train_and_evaluate(config, workdir, run_type=PopulationRun, **options)


class PopulationRun(Run):
    """A population under way, in the stages of `session.Run`; the state is the seated members'.

    In one program a member that has ended keeps its seat, and what it computes is ignored, until
    half the seats are of such members; then the program is compiled anew for those that go on.
    """

    def __init__(self, experiment: Experiment, session: Session):
        config, devices = experiment.config, experiment.mesh.devices
        configs = member_configs(config)
        self.fields, self.seats = differing(configs), None
        self.strategy = choose(config.population.strategy, devices.flat[0].platform)
        self.members = [
            Member(number, with_config(experiment, own)) for number, own in enumerate(configs)
        ]
        # The program's config has every field on that is on in any member.
        on = {path: max(flatten(own)[path] for own in configs) for path in self.fields}
        self.pattern = with_config(experiment, with_fields(configs[0], on))
        super().__init__(dataclasses.replace(self.pattern, config=config), session)

    @staticmethod
    def check(experiment: Experiment) -> None:
        """Raises InputError unless the members can be compared as the config asks."""
        steps_at_once(experiment)
        if jax.process_count() > 1:
            raise InputError("a population is trained by one process, on all of its devices")
        check_each(experiment.config, experiment.dataset.spec)
        every = evaluations_every(experiment)
        check_rungs(experiment.config.population.halving, experiment.steps, every)

    def start(self) -> PyTree:
        """Returns the members' states to go on from: the last checkpoint's, else new ones."""
        session = self.session
        if found := session.saving.restore_latest(template(self.pattern, len(self.members))):
            self.start_step, saved, known = found
            lasts = recall(self.members, on_host(saved), known["members"])
            states = [lasts[member.number] for member in self._seated()]
        else:
            self.start_step, states = 0, self._new_states()
        self.last_step = self.start_step
        self.parameters = count_parameters(states[0].params)
        self._make_seats(len(states))
        session.display.say(introduction(self.experiment, self.parameters))
        session.display.say(f"{len(self.members)} members, by strategy {self.strategy}")
        if found:
            session.display.say(f"resumed {session.workdir} at step {self.start_step}")
        return self._fill_and_compile(states)

    def _new_states(self) -> list[PyTree]:
        source = source_variables(self.experiment, say=self.session.display.say)
        with self.session.clock.stage("compile"):
            draw = jax.jit(partial(state_from, self.pattern), compiler_options=once_options())
            keys = [key_for(member.config.seed, Purpose.INIT) for member in self.members]
            computed = computed_parameters(self.pattern)
            return [on_host(draw(key, source, computed)) for key in keys]

    def _seated(self) -> list[Member]:
        return [member for member in self.members if member.seated]

    def _going(self) -> list[Member]:
        return [member for member in self.members if not member.ended]

    def _make_seats(self, count: int) -> None:
        """Makes so many seats, in place of those there are."""
        self.seats = None  # room on the devices for the next ones
        with self.session.clock.stage("data"):
            self.seats = Seats(self.pattern, self.fields, self.strategy, count)
        self.experiment = dataclasses.replace(self.experiment, mesh=self.seats.program.mesh)

    def _fill(self, states: Sequence[PyTree]) -> PyTree:
        """Returns the seated members' states as the program takes them."""
        return self.seats.fill([member.config for member in self._seated()], states)

    def _fill_and_compile(self, states: Sequence[PyTree]) -> PyTree:
        placed = self._fill(states)
        self.session.display.say(f"compiling for {len(states)} members …")
        with self.session.clock.stage("compile"):
            self.seats.compile(placed)
        return placed

    @property
    def feeder(self) -> Any:
        """The feeder of those seated."""
        return self.seats.feeder

    def begin(self, state: PyTree, writers: Writers) -> None:
        """Takes note of where rows go."""
        self.writers = writers

    def take_steps(self, state: PyTree, feed: PyTree, count: int) -> tuple[PyTree, PyTree]:
        """Returns the states after one step, and the members' sums."""
        return self.seats.take_step(state, feed)

    # At the end of every row's steps.

    def end_row(
        self, step: int, state: PyTree, sums: list, seconds: float, *, save: bool
    ) -> PyTree:
        """Writes a row, evaluates, ends members and saves; returns the state to go on with."""
        before, self.last_step = self._going(), step
        self._take_in(sums)
        images = len(before) * len(sums) * self.experiment.config.data.batch_size
        rows = {m.number: self._means(m, step) for m in before if not self._diverged(m, step)}
        improved = self._validate(step, state, rows)
        self._write(step, rows, images / seconds)
        self._end_some(step, rows)
        return self._keep(step, state, before, improved, save=save)

    def save_within_row(self, step: int, state: PyTree, sums: list) -> None:
        """Saves between two rows; the members are judged at the next, as by a run that goes on."""
        self._take_in(sums)
        self._keep(step, state, self._going(), [], save=True)

    def is_over(self, step: int) -> bool:
        """Tells whether no member goes on."""
        return not self._going()

    def _take_in(self, sums: list) -> None:
        """Adds the steps' sums to those of their members, as numbers that a checkpoint keeps."""
        by_seat = zip(*map(self.seats.program.split, sums), strict=True)
        for member, own in zip(self._seated(), by_seat, strict=True):
            if not member.ended:
                member.sums += jax.tree.map(lambda value: np.asarray(value).item(), own)

    def _keep(self, step: int, state: PyTree, before: list, better: list, *, save: bool) -> PyTree:
        """Keeps the states that are to last, in a checkpoint if it is time; returns the others."""
        last = not self._going()
        ended = [member for member in before if member.ended]
        save = save or last or checkpoint_is_due(self.experiment, step)
        if not (save or better or ended):
            return state
        with self.session.clock.stage("checkpoint"):
            states = self.seats.program.split(on_host(state))
        host = dict(zip([m.number for m in self._seated()], states, strict=True))
        for member in better:
            member.best_state = host[member.number]
        for member in ended:
            member.state = host[member.number]
        state = state if last else self._without_ended(state, host)
        if save:
            known = {"members": [member.progress() for member in self.members]}
            self.session.saving.save(step, to_save(self.members, host), known)
        return state

    def _means(self, member: Member, step: int) -> Row:
        sums, member.sums = member.sums, []
        member.skipped += sum(each["nonfinite"] >= 0 for each in sums)
        totals = merge(map(without_flags, sums))
        return train_means(member.experiment, step - member.skipped, totals)

    def _diverged(self, member: Member, step: int) -> bool:
        """Ends the member if it was frozen in one of the steps since the last row."""
        frozen = [each["frozen"] for each in member.sums]
        if not any(frozen):
            return False
        i = frozen.index(True)
        leaves = jax.tree_util.tree_leaves_with_path(abstract_state(self.pattern).params)
        parameter = path_name(leaves[member.sums[i]["nonfinite"]][0])
        at, member.sums = step - len(frozen) + i + 1, []
        self._end(member, at, DIVERGED, f"the gradient of {parameter} is not finite; it is frozen")
        return True

    def _validate(self, step: int, state: PyTree, rows: dict[int, Row]) -> list[Member]:
        """Adds the validation metrics to the rows if they are due; returns who improved."""
        improved, wanted = [], rows and self.experiment.dataset.validation
        if not wanted or not evaluation_is_due(self.experiment, step):
            return improved
        with self.session.clock.stage("evaluate"):
            evaluated = self.seats.validate(state)
        least = self.experiment.config.train.min_change
        for member, metrics in zip(self._seated(), evaluated, strict=True):
            if member.number in rows:
                rows[member.number] |= {f"validation_{name}": v for name, v in metrics.items()}
                if member.improves(step, metrics["accuracy"], min_change=least):
                    improved.append(member)
        return improved

    def _end_some(self, step: int, rows: dict[int, Row]) -> None:
        """Ends the members that are done, out of patience or among the weaker half at a rung."""
        config, going = self.experiment.config, self._going()
        if step == self.experiment.steps:
            for member in going:
                member.ended, member.last_step = FINISHED, step
            return
        every = evaluations_every(self.experiment)
        ends = endings(
            going,
            step,
            {i: row.get("validation_accuracy", math.nan) for i, row in rows.items()},
            patience=config.train.patience * every,
            halvings=rungs(config.population.halving, self.experiment.steps, every),
            members=len(self.members),
        )
        for number, (why, text) in ends.items():
            self._end(self.members[number], step, why, text)

    def _end(self, member: Member, step: int, why: str, text: str) -> None:
        member.ended, member.last_step = why, step
        what = describe(member.config, self.fields)
        self.session.display.say(f"member {member.number} ({what}) ends at step {step}: {text}")

    def _without_ended(self, state: PyTree, host: dict[int, PyTree]) -> PyTree:
        going, seats = self._going(), self._seated()
        few = len(going) if self.seats.program.takes_any_number else 2 * len(going)
        if few > len(seats) or len(going) == len(seats):
            return state
        for member in self.members:
            member.seated = not member.ended
        states = [host[member.number] for member in going]
        if self.seats.program.takes_any_number:
            return self._fill(states)
        self._make_seats(len(states))
        return self._fill_and_compile(states)

    def _write(self, step: int, rows: dict[int, Row], speed: float) -> None:
        """Writes the means over the members that go on, and each one's own numbers."""
        if not rows:
            return
        means = mean_row(list(rows.values()))
        row = {**position(self.experiment, step), **means, "images_per_second": speed}
        self.session.display.row(row, self.experiment.steps)
        with self.session.saving.heeding_errors():
            self.writers.write(row | {"members": [rows.get(m.number) for m in self.members]})

    # After the last step.

    def close(self) -> None:
        """There is nothing to end: the data lie on the devices."""

    def result(self, state: PyTree) -> dict[str, Any]:
        """Returns what the population leaves, after writing its members' own directories."""
        if not any(member.ended in (FINISHED, PATIENCE) for member in self.members):
            raise RunError(
                "every member diverged, or was dropped before; their last states are in the "
                "checkpoint. Try a lower optim.learning_rate, optim.clip_norm or "
                "train.skip_nonfinite"
            )
        with self.session.clock.stage("evaluate"):
            tests = self.seats.test([member.to_test() for member in self.members])
        self.session.saving.settle()
        with self.session.clock.stage("checkpoint"):
            pairs = zip(self.members, tests, strict=True)
            results = [self._member_result(member, test) for member, test in pairs]
            for member, result in zip(self.members, results, strict=True):
                write_member(self.session.workdir, member, result)
        return {
            **self._outcome(self.experiment.config, steps=self.last_step, skipped=0, best=None),
            "strategy": self.strategy,
            **self._costs(sum(map(self._steps_taken, self.members))),
            **summary(results, combinations(self.experiment.config.population)),
        }

    def _member_result(self, member: Member, test: dict[str, float]) -> dict[str, Any]:
        flat = flatten(member.config)
        return {
            "member": member.number,
            "values": {path: flat[path] for path in self.fields},
            "ended": member.ended,
            "stopped_early": member.ended == PATIENCE,
            **self._outcome(
                member.config,
                steps=member.last_step,
                skipped=int(member.state.skipped),
                best=member.best,
            ),
            **{f"test_{name}": value for name, value in test.items()},
            **self._costs(self._steps_taken(member)),
        }

    def _outcome(self, config: Config, **facts: Any) -> dict[str, Any]:
        facts |= {"parameters": self.parameters, "resumed_from": self.start_step}
        return outcome(self.experiment, config, **facts)

    def _costs(self, steps: int) -> dict[str, Any]:
        return costs(self.experiment, self.session.clock.seconds(), steps)

    def _steps_taken(self, member: Member) -> int:
        """Returns how many steps the member took in this process."""
        return max(0, member.last_step - self.start_step)
