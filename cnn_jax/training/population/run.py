"""A population: many runs trained together, each as it would go alone."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import PyTree

from cnn_jax.config import Config, flatten, with_fields
from cnn_jax.data.resident import EvalBatches, Feed, MembersFeeder
from cnn_jax.data.spec import Split
from cnn_jax.errors import InputError, RunError
from cnn_jax.training.checkpoint import abstract
from cnn_jax.training.loop import Run, evaluations_every, train_and_evaluate, train_means
from cnn_jax.training.metrics import compute, merge
from cnn_jax.training.parallel import compiler_options, once_options
from cnn_jax.training.parameter_paths import path_name
from cnn_jax.training.population.directories import write_member
from cnn_jax.training.population.host_trees import on_host, split_tree, stack_trees
from cnn_jax.training.population.members import (
    check_each,
    combinations,
    describe,
    differing,
    member_configs,
)
from cnn_jax.training.population.results import mean_row, summary
from cnn_jax.training.population.standing import (
    DIVERGED,
    FINISHED,
    PATIENCE,
    Member,
    check_rungs,
    endings,
    rungs,
)
from cnn_jax.training.population.strategies import (
    choose,
    make_program,
    member_eval_step,
    member_step,
    own_inputs,
    without_flags,
)
from cnn_jax.training.programs import Programs, steps_at_once
from cnn_jax.training.setup import (
    Experiment,
    abstract_state,
    computed_parameters,
    source_variables,
    state_from,
    with_config,
)
from cnn_jax.training.state import Purpose, key_for
from cnn_jax.training.writers import Row, Writers


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
    """A population under way. What the loop takes for its state is that of the members seated.

    In one program a member that has ended keeps its seat, unheeded, until half the seats are such;
    then the program is compiled anew for those that go on.
    """

    @staticmethod
    def check(experiment: Experiment) -> None:
        """Raises InputError unless the members can be compared as the config asks."""
        steps_at_once(experiment)
        if jax.process_count() > 1:
            raise InputError("a population is trained by one process, on all of its devices")
        check_each(experiment.config, experiment.dataset.spec)
        every = evaluations_every(experiment)
        check_rungs(experiment.config.population.halving, experiment.steps, every)

    def _place_data(self) -> None:
        """Prepares the members; data are placed with each program, on its devices."""
        config, devices = self.experiment.config, self.experiment.mesh.devices
        configs = member_configs(config)
        self.fields, self.devices, self.program = differing(configs), devices.size, None
        self.sharding = SingleDeviceSharding(devices.flat[0])
        self.strategy = choose(config.population.strategy, devices.flat[0].platform)
        self.members = [
            Member(number, with_config(self.experiment, own)) for number, own in enumerate(configs)
        ]
        # The program's config has every field on that is on in any member.
        on = {path: max(flatten(own)[path] for own in configs) for path in self.fields}
        pattern = with_config(self.experiment, with_fields(configs[0], on))
        self.experiment = dataclasses.replace(pattern, config=config)
        self.pattern = pattern

    def start(self) -> PyTree:
        """Returns the members' states to go on from: the last checkpoint's, else new ones."""
        with self.clock.stage("checkpoint"):
            found = self.checkpoints.restore_latest(self._template())
        if found:
            self.start_step, saved = found
            states = self._recall(on_host(saved))
        else:
            self.start_step = 0
            source = source_variables(self.experiment, say=self.display.say)
            with self.clock.stage("compile"):
                draw = jax.jit(partial(state_from, self.pattern), compiler_options=once_options())
                keys = [key_for(member.config.seed, Purpose.INIT) for member in self.members]
                computed = computed_parameters(self.pattern)
                states = [on_host(draw(key, source, computed)) for key in keys]
        states = self._seat(states)
        self._introduce(self.program.split(states)[0].params)
        self.display.say(f"{len(self.members)} members, by strategy {self.strategy}")
        if found:
            self.display.say(f"resumed {self.workdir} at step {self.start_step}")
        return states

    def _template(self) -> dict[str, PyTree]:
        stacked = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((len(self.members), *leaf.shape), leaf.dtype),
            abstract_state(self.pattern),
        )
        names = ("last", "best") if self.experiment.dataset.validation else ("last",)
        return {name: abstract(stacked, self.sharding) for name in names}

    def _recall(self, saved: dict[str, PyTree]) -> list[PyTree]:
        known = self.checkpoints.metrics(self.start_step)["members"]
        lasts = split_tree(saved["last"])
        bests = split_tree(saved["best"]) if "best" in saved else lasts
        for member, *held in zip(self.members, known, lasts, bests, strict=True):
            member.recall(*held)
        return [lasts[member.number] for member in self._seated()]

    def _seated(self) -> list[Member]:
        return [member for member in self.members if member.seated]

    def _going(self) -> list[Member]:
        return [member for member in self.members if not member.ended]

    # The program, and what it computes.

    def _seat(self, states: Sequence[PyTree]) -> PyTree:
        """Returns the seated members' states as the program takes them, compiled if need be."""
        configs = [member.config for member in self._seated()]
        new = self.program is None or not self.program.takes_any_number
        if new:
            options = compiler_options(self.pattern.config.train, jax.default_backend())
            self.program = make_program(self.strategy, len(states), self.devices, options)
            self.experiment = dataclasses.replace(self.experiment, mesh=self.program.mesh)
            super()._place_data()
        self.feeder = MembersFeeder(
            self.experiment.dataset.train,
            seeds=[config.seed for config in configs],
            batch_size=self.experiment.config.data.batch_size,
            sharding=self.sharding,
        )
        self.own = self.program.place(own_inputs(configs, self.fields))
        self.feed, self.key = None, None  # the keys are the members' own
        placed = self.program.place(states)
        if new:
            self._compile(placed)
        return placed

    def _compile(self, states: PyTree) -> None:
        count = len(self._seated())
        self.display.say(f"compiling for {count} members …")
        with self.clock.stage("compile"):
            self._take_up(self.feeder(0))
            example = (states, self.own, self.shared)
            step = member_step(self.pattern)
            self.compiled_step = self.program.compile(step, example, donate=True)
            example = (states, self.program.place([()] * count), next(iter(self.test)))
            look = test = self.program.compile(member_eval_step(self.pattern), example)
            if self.pattern.config.data.test_views:
                step = member_eval_step(self.pattern, test_views=True)
                test = self.program.compile(step, example)
            self.programs = Programs({1: self._train_step}, look, test)

    def _take_up(self, feed: Feed) -> None:
        """Hands each member its order of the examples, once an epoch."""
        if feed is not self.feed:
            self.own = self.program.with_rows(self.own, "order", feed.order)
            self.feed, self.shared = feed, feed._replace(order=())

    def _train_step(self, states: PyTree, feed: Feed, key: None) -> tuple[PyTree, PyTree]:
        self._take_up(feed)
        return self.compiled_step(states, self.own, self.shared)

    def _evaluated(
        self, step: Callable, states: PyTree, batches: EvalBatches, split: Split
    ) -> list[dict[str, float]]:
        """Returns the exact metrics on a split of each state."""
        with self.clock.stage("evaluate"):
            nothing = self.program.place([()] * len(self._seated()))
            outputs = [step(states, nothing, batch)[0] for batch in batches]
            sums = zip(*map(self.program.split, jax.device_get(outputs)), strict=True)
            totals = [merge(each) for each in sums]
        if any(total["examples"] != len(split) for total in totals):
            raise AssertionError(f"not every member was evaluated on {len(split)} examples")
        return [compute(total) for total in totals]

    # At the end of every row's steps.

    def _look(
        self, step: int, state: PyTree, sums: list, since: float, writers: Writers, *, save: bool
    ) -> PyTree:
        before = self._going()
        self._take_in(sums)
        images = len(before) * len(sums) * self.experiment.config.data.batch_size
        speed = images / (self._train_seconds() - since)
        rows = {m.number: self._means(m, step) for m in before if not self._diverged(m, step)}
        improved = self._validate(step, state, rows)
        self._write(step, rows, speed, writers)
        self._end_some(step, rows)
        return self._keep(step, state, before, improved, save=save)

    def _hold(self, step: int, state: PyTree, sums: list, *_: Any, **__: Any) -> PyTree:
        self._take_in(sums)  # judged at the next row, as by a run that goes on
        return self._keep(step, state, self._going(), [], save=True)

    def _take_in(self, sums: list) -> None:
        """Adds the steps' sums to those of their members, as numbers that a checkpoint keeps."""
        by_seat = zip(*map(self.program.split, sums), strict=True)
        for member, own in zip(self._seated(), by_seat, strict=True):
            if not member.ended:
                member.sums += jax.tree.map(lambda value: np.asarray(value).item(), own)

    def _keep(self, step: int, state: PyTree, before: list, better: list, *, save: bool) -> PyTree:
        """Keeps the states that are to last, in a checkpoint if it is time; returns the others."""
        last = not self._going()
        ended = [member for member in before if member.ended]
        save = save or last or step % self.checkpoint_every == 0
        if not (save or better or ended):
            return state
        with self.clock.stage("checkpoint"):
            states = self.program.split(on_host(state))
        host = dict(zip([m.number for m in self._seated()], states, strict=True))
        for member in better:
            member.best_state = host[member.number]
        for member in ended:
            member.state = host[member.number]
        state = state if last else self._without_ended(state, host)
        if save:
            known = {"members": [member.progress() for member in self.members]}
            self.saving.save(step, self._tree(host), known)
        return state

    def _means(self, member: Member, step: int) -> Row:
        sums, member.sums = member.sums, []
        member.skipped += sum(each["nonfinite"] >= 0 for each in sums)
        totals = merge(map(without_flags, sums))
        return train_means(member.experiment, step - member.skipped, totals)

    def _tree(self, host: dict[int, PyTree]) -> dict[str, PyTree]:
        """Returns what is saved: the last state of each member, and its best where it has one."""
        lasts = [host[m.number] if m.state is None else m.state for m in self.members]
        if self.experiment.dataset.validation is None:
            return {"last": stack_trees(lasts)}
        pairs = zip(self.members, lasts, strict=True)
        bests = [member.best_state if member.best else last for member, last in pairs]
        return {"last": stack_trees(lasts), "best": stack_trees(bests)}

    def _out_of_patience(self, step: int) -> bool:
        return not self._going()

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
        split, improved = self.experiment.dataset.validation, []
        last = step == self.experiment.steps
        if not split or not rows or not (last or step % self.eval_every == 0):
            return []
        evaluated = self._evaluated(self.programs.evaluate, state, self.validation, split)
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
        ends = endings(
            going,
            step,
            {i: row.get("validation_accuracy", math.nan) for i, row in rows.items()},
            patience=config.train.patience * self.eval_every,
            halvings=rungs(config.population.halving, self.experiment.steps, self.eval_every),
            members=len(self.members),
        )
        for number, (why, text) in ends.items():
            self._end(self.members[number], step, why, text)

    def _end(self, member: Member, step: int, why: str, text: str) -> None:
        member.ended, member.last_step = why, step
        what = describe(member.config, self.fields)
        self.display.say(f"member {member.number} ({what}) ends at step {step}: {text}")

    def _without_ended(self, state: PyTree, host: dict[int, PyTree]) -> PyTree:
        going, seats = self._going(), self._seated()
        few = len(going) if self.program.takes_any_number else 2 * len(going)
        if few > len(seats) or len(going) == len(seats):
            return state
        for member in self.members:
            member.seated = not member.ended
        return self._seat([host[member.number] for member in going])

    def _write(self, step: int, rows: dict[int, Row], speed: float, writers: Writers) -> None:
        """Writes the means over the members that go on, and each one's own numbers."""
        if not rows:
            return
        means = mean_row(list(rows.values()))
        row = {**self._position(step), **means, "images_per_second": speed}
        self.display.row(row, self.experiment.steps)
        with self.saving.heeding_errors():
            writers.write(row | {"members": [rows.get(m.number) for m in self.members]})

    # After the last step.

    def result(self, state: PyTree) -> dict[str, Any]:
        """Returns what the population leaves, after writing its members' own directories."""
        if not any(member.ended in (FINISHED, PATIENCE) for member in self.members):
            raise RunError(
                "every member diverged, or was dropped before; their last states are in the "
                "checkpoint. Try a lower optim.learning_rate, optim.clip_norm or "
                "train.skip_nonfinite"
            )
        tests = self._tested()
        self.saving.settle()
        with self.clock.stage("checkpoint"):
            pairs = zip(self.members, tests, strict=True)
            results = [self._member_result(member, test) for member, test in pairs]
            for member, result in zip(self.members, results, strict=True):
                write_member(self.workdir, member, result)
        taken = sum(max(0, member.last_step - self.start_step) for member in self.members)
        return {
            **self._outcome(self.experiment.config, self.last_step, 0, None),
            "strategy": self.strategy,
            **self._costs(taken),
            **summary(results, combinations(self.experiment.config.population)),
        }

    def _tested(self) -> list[dict[str, float]]:
        """Returns the metrics on the test split of each member, in groups that fill the program."""
        states = [member.to_test() for member in self.members]
        size, found = len(self._seated()), []
        for i in range(0, len(states), size):
            group = states[i : i + size]
            group += group[-1:] * (size - len(group))
            placed = self.program.place(group)
            test = self.experiment.dataset.test
            found += self._evaluated(self.programs.test, placed, self.test, test)
        return found[: len(states)]

    def _member_result(self, member: Member, test: dict[str, float]) -> dict[str, Any]:
        flat, skipped = flatten(member.config), int(member.state.skipped)
        return {
            "member": member.number,
            "values": {path: flat[path] for path in self.fields},
            "ended": member.ended,
            "stopped_early": member.ended == PATIENCE,
            **self._outcome(member.config, member.last_step, skipped, member.best),
            **{f"test_{name}": value for name, value in test.items()},
            **self._costs(max(0, member.last_step - self.start_step)),
        }
