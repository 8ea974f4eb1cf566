"""How the members of a population are computed together: one program, or one in turns.

Both `Stacked` and `InTurns` run the same functions of one member, which are those of a run alone:

- "vmap": one program, in which every array has a leading axis of members, shared out to devices.
- "map": one program, too, but members go through it one after the other: the memory of one.
- "each": the program of one member, called for each. The calls don't wait for one another, so on a
  CPU members run side by side on the cores.

Measured on a CPU, "each" is fastest: convolutions that are mapped over kernels take twice the time
(as matrix products; XLA's grouped ones, four times), and a loop inside a program keeps XLA from its
fast kernels (five times). An accelerator wants large operations, and gets "vmap".
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree

from cnn_jax.config import Config, flatten, with_fields
from cnn_jax.data.resident import Feed
from cnn_jax.training.members import differing
from cnn_jax.training.parallel import make_mesh, replicated
from cnn_jax.training.setup import (
    Experiment,
    resident_train_step,
    sharded_eval_step,
    with_config,
)
from cnn_jax.training.state import Purpose, TrainState, key_for, model_variables

# f(state, own, shared): what changes, what else a member has for itself, what all have in common.
MemberFn = Callable[[PyTree, PyTree, PyTree], Any]


def choose(strategy: str, platform: str) -> str:
    """Returns the fastest strategy for a platform where it is "auto".

    >>> choose("auto", "cpu"), choose("auto", "gpu"), choose("map", "cpu")
    ('each', 'vmap', 'map')
    """
    if strategy != "auto":
        return strategy
    return "each" if platform == "cpu" else "vmap"


def member_step(experiment: Experiment) -> MemberFn:
    """Returns the training step of one member: f(state, own, feed) -> (state, sums).

    `own` holds the member's `order` of the examples, its `key`, and `values`: numbers, by field,
    instead of the config's. The sums have `frozen` too. It is true from the step on at which more
    gradients than `train.skip_nonfinite` were not finite; the state stays as it was before.
    """
    config = experiment.config
    allowed = config.train.skip_nonfinite
    config = with_fields(config, {"train.skip_nonfinite": max(1, allowed)})

    def step(state: TrainState, own: dict[str, Any], feed: Feed) -> tuple[TrainState, dict]:
        member = with_config(experiment, with_fields(config, own["values"]))
        feed = feed._replace(order=own["order"])
        new, sums = resident_train_step(member)(state, feed, own["key"])
        frozen = state.skipped > allowed
        new = jax.tree.map(lambda old, new: jax.numpy.where(frozen, old, new), state, new)
        return new, sums | {"frozen": new.skipped > allowed}

    return step


def member_eval_step(experiment: Experiment) -> MemberFn:
    """Returns the evaluation step of one member: f(state, (), batch) -> sums."""
    step = sharded_eval_step(experiment)
    return lambda state, own, batch: step(model_variables(state), batch)[0]


def own_inputs(configs: Sequence[Config]) -> list[dict[str, Any]]:
    """Returns what each member's step gets beside its state, but for the order of the examples."""
    fields = differing(configs)
    inputs = []
    for config in configs:
        flat = flatten(config)
        values = {path: np.float32(flat[path]) for path in fields}
        inputs.append({"key": key_for(config.seed, Purpose.STEP), "values": values})
    return inputs


class InTurns:
    """The program of one member, called for each; states are a list. Runs on one device."""

    def __init__(self, devices: int):
        del devices
        self.mesh = make_mesh(1)

    def place(self, members: Sequence[PyTree]) -> list[PyTree]:
        """Returns the members' trees on the device."""
        return [jax.device_put(member, replicated(self.mesh)) for member in members]

    def split(self, members: list[PyTree]) -> list[PyTree]:
        """Returns one tree for each member."""
        return members

    def compile(self, f: MemberFn, example: tuple, *, donate: bool = False) -> Callable:
        """Returns f compiled for the members' states, own inputs and what they share.

        `example` holds these three as the calls will. `donate` hands the states' memory over.
        """
        states, own, shared = example
        jitted = jax.jit(f, donate_argnums=(0,) if donate else ())
        self.compiled = compiled = jitted.lower(states[0], own[0], shared).compile()

        def call(states: list, own: list, shared: PyTree) -> Any:
            results = [compiled(*each, shared) for each in zip(states, own, strict=True)]
            return tuple(map(list, zip(*results, strict=True))) if donate else results

        return call


class Stacked:
    """One program for all members; states are one tree whose arrays have a leading axis."""

    def __init__(self, devices: int, *, loop: bool):
        self.mesh, self._loop = make_mesh(devices), loop
        self._spread = NamedSharding(self.mesh, PartitionSpec(*self.mesh.axis_names))

    def place(self, members: Sequence[PyTree]) -> PyTree:
        """Returns the members' trees stacked, on the devices."""
        stacked = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *members)
        return jax.device_put(stacked, self._spread)

    def split(self, stacked: PyTree) -> list[PyTree]:
        """Returns one tree for each member, of arrays on the host."""
        count = len(jax.tree.leaves(stacked)[0])
        return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)]

    def compile(self, f: MemberFn, example: tuple, *, donate: bool = False) -> Callable:
        """Returns f compiled for the members' states, own inputs and what they share.

        `example` holds these three as the calls will. `donate` hands the states' memory over.
        """

        def mapped(states: PyTree, own: PyTree, shared: PyTree) -> Any:
            if self._loop:
                return jax.lax.map(lambda each: f(*each, shared), (states, own))
            return jax.vmap(f, in_axes=(0, 0, None))(states, own, shared)

        if self.mesh.size > 1:
            spread, whole = self._spread.spec, PartitionSpec()
            mapped = jax.shard_map(
                mapped, mesh=self.mesh, in_specs=(spread, spread, whole), out_specs=spread
            )
        jitted = jax.jit(mapped, donate_argnums=(0,) if donate else ())
        self.compiled = jitted.lower(*example).compile()
        return self.compiled


def equal_share(members: int, devices: int) -> int:
    """Returns how many devices, at most, can hold equal shares of the members.

    >>> equal_share(16, 8), equal_share(6, 4)
    (8, 3)
    """
    return next(count for count in range(devices, 0, -1) if members % count == 0)
