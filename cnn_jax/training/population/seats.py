"""The members of a population that are computed: their program, what feeds it and what tests it."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
from jaxtyping import PyTree

from cnn_jax.config import Config
from cnn_jax.data.resident import EvalBatches, Feed, MembersFeeder
from cnn_jax.placement import replicated
from cnn_jax.training.feeding import eval_splits
from cnn_jax.training.metrics import compute, merge
from cnn_jax.training.parallel import compiler_options
from cnn_jax.training.population.strategies import (
    make_program,
    member_eval_step,
    member_step,
    own_inputs,
)
from cnn_jax.training.setup import Experiment


class Seats:
    """So many seats in a program of one strategy; of strategy "each" any number may be filled.

    Args:
      pattern: the experiment of a member that has everything on that is on in any.
      fields: what differs between members, but for the seed.
      strategy: how they are computed together, see `strategies`.
      count: how many seats.
    """

    def __init__(self, pattern: Experiment, fields: Sequence[str], strategy: str, count: int):
        self._fields, self._count = fields, count
        options = compiler_options(pattern.config.train, jax.default_backend())
        self.program = make_program(strategy, count, pattern.mesh.size, options)
        self._experiment = dataclasses.replace(pattern, mesh=self.program.mesh)
        self._test, self._validation = eval_splits(self._experiment)

    def fill(self, configs: Sequence[Config], states: Sequence[PyTree]) -> PyTree:
        """Seats members; returns their states as the program takes them."""
        self.feeder = MembersFeeder(
            self._experiment.dataset.train,
            seeds=[config.seed for config in configs],
            batch_size=self._experiment.config.data.batch_size,
            sharding=replicated(self._experiment.mesh),
        )
        self._own = self.program.place(own_inputs(configs, self._fields))
        self._count = len(configs)
        self._nothing = self.program.place([()] * len(configs))
        self._feed = None
        return self.program.place(states)

    def compile(self, states: PyTree) -> None:
        """Compiles the steps for the members seated, whose states these are."""
        pattern, program = self._experiment, self.program
        self._take_up(self.feeder(0))
        example = (states, self._own, self._shared)
        self._train_step = program.compile(member_step(pattern), example, donate=True)
        example = (states, self._nothing, next(iter(self._test)))
        self._validate_step = program.compile(member_eval_step(pattern), example)
        self._test_step = self._validate_step
        if pattern.config.data.test_views:
            step = member_eval_step(pattern, test_views=True)
            self._test_step = program.compile(step, example)

    def take_step(self, states: PyTree, feed: Feed) -> tuple[PyTree, PyTree]:
        """Returns the states after one step, and the members' sums."""
        self._take_up(feed)
        return self._train_step(states, self._own, self._shared)

    def _take_up(self, feed: Feed) -> None:
        """Hands each member its order of the examples, once an epoch."""
        if feed is not self._feed:
            self._own = self.program.with_rows(self._own, "order", feed.order)
            self._feed, self._shared = feed, feed._replace(order=())

    def validate(self, states: PyTree) -> list[dict[str, float]]:
        """Returns each member's exact metrics on the validation split."""
        examples = len(self._experiment.dataset.validation)
        return self._evaluate(self._validate_step, states, self._validation, examples)

    def test(self, states: Sequence[PyTree]) -> list[dict[str, float]]:
        """Returns the metrics of any number of states on the test split, seated group by group."""
        size, found, examples = self._count, [], len(self._experiment.dataset.test)
        for i in range(0, len(states), size):
            group = [*states[i : i + size]]
            group += group[-1:] * (size - len(group))
            placed = self.program.place(group)
            found += self._evaluate(self._test_step, placed, self._test, examples)
        return found[: len(states)]

    def _evaluate(
        self, step: Callable, states: PyTree, batches: EvalBatches, examples: int
    ) -> list[dict[str, float]]:
        """Returns each seated member's exact metrics on a split."""
        outputs = [step(states, self._nothing, batch)[0] for batch in batches]
        sums = zip(*map(self.program.split, jax.device_get(outputs)), strict=True)
        totals = [merge(each) for each in sums]
        if any(total["examples"] != examples for total in totals):
            raise AssertionError(f"not every member was evaluated on {examples} examples")
        return [compute(total) for total in totals]
