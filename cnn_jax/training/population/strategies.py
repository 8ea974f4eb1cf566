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

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

from cnn_jax.config import Config, flatten, with_fields
from cnn_jax.data.resident import Feed
from cnn_jax.errors import RunError
from cnn_jax.placement import replicated, sharded
from cnn_jax.training.device_steps import fed_train_step, sharded_eval_step
from cnn_jax.training.parallel import device_memory, make_mesh
from cnn_jax.training.population.host_trees import split_tree
from cnn_jax.training.setup import Experiment, with_config
from cnn_jax.training.state import Purpose, TrainState, key_for, model_variables

# f(state, own, shared) -> tuple: what changes, what else the member has, what all have in common.
MemberFn = Callable[[PyTree, PyTree, PyTree], tuple]


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
    config, experiment = experiment.config, dataclasses.replace(experiment, mesh=make_mesh(1))
    allowed = config.train.skip_nonfinite
    config = with_fields(config, {"train.skip_nonfinite": max(1, allowed)})

    def step(state: TrainState, own: dict[str, Any], feed: Feed) -> tuple[TrainState, dict]:
        member = with_config(experiment, with_fields(config, own["values"]))
        feed = feed._replace(order=own["order"])
        new, sums = fed_train_step(member)(state, feed, own["key"])
        frozen = state.skipped > allowed
        new = jax.tree.map(lambda old, new: jnp.where(frozen, old, new), state, new)
        return new, sums | {"frozen": new.skipped > allowed}

    return step


def without_flags(sums: dict[str, Any]) -> dict[str, Any]:
    """Returns what of a member's sums can be added up.

    >>> without_flags({"loss": 2.5, "frozen": False, "nonfinite": -1})
    {'loss': 2.5}
    """
    return {name: value for name, value in sums.items() if name not in ("frozen", "nonfinite")}


def member_eval_step(experiment: Experiment, *, test_views: bool = False) -> MemberFn:
    """Returns the evaluation step of one member: f(state, (), batch) -> (sums,)."""
    experiment = dataclasses.replace(experiment, mesh=make_mesh(1))
    step = sharded_eval_step(experiment, test_views=test_views)
    return lambda state, own, batch: step(model_variables(state), batch)[:1]


def own_inputs(configs: Sequence[Config], fields: Sequence[str]) -> list[dict[str, Any]]:
    """Returns what each member's step gets beside its state, but for the order of the examples."""
    inputs = []
    for config in configs:
        flat = flatten(config)
        values = {path: np.float32(flat[path]) for path in fields}
        inputs.append({"key": key_for(config.seed, Purpose.STEP), "values": values})
    return inputs


def make_program(
    strategy: str, members: int, devices: int, options: dict[str, bool] | None = None
) -> "InTurns | Stacked":
    """Returns the program of a strategy for so many members on, at most, so many devices.

    `options` are the compiler's, see `parallel.compiler_options`.
    """
    if strategy == "each":
        return InTurns(options)
    return Stacked(equal_share(members, devices), loop=strategy == "map", options=options)


class InTurns:
    """The program of one member, called for each; states are a list. Runs on one device."""

    takes_any_number = True

    def __init__(self, options: dict[str, bool] | None = None) -> None:
        self.mesh, self._options = make_mesh(1), options

    def place(self, members: Sequence[PyTree]) -> list[PyTree]:
        """Returns the members' trees on the device."""
        return [jax.device_put(member, replicated(self.mesh)) for member in members]

    def split(self, members: list[PyTree]) -> list[PyTree]:
        """Returns one tree for each member."""
        return members

    def with_rows(self, own: list[dict], name: str, rows: jax.Array) -> list[dict]:
        """Returns the members' inputs, to each of which its row of an array is added by a name."""
        return [inputs | {name: row} for inputs, row in zip(own, rows, strict=True)]

    def compile(self, f: MemberFn, example: tuple, *, donate: bool = False) -> Callable:
        """Returns f compiled for all members' states, own inputs and what they share.

        `example` holds these three as the calls will. `donate` hands the states' memory over.
        """
        (state, *_), (own, *_), shared = example
        compiled = _compile(f, (state, own, shared), donate, self._options)

        def call(states: list, own: list, shared: PyTree) -> tuple[list, ...]:
            results = [compiled(*each, shared) for each in zip(states, own, strict=True)]
            return tuple(map(list, zip(*results, strict=True)))

        return call


class Stacked:
    """One program for all members; states are one tree whose arrays have a leading axis."""

    takes_any_number = False

    def __init__(self, devices: int, *, loop: bool, options: dict[str, bool] | None = None):
        self.mesh, self._loop, self._options = make_mesh(devices), loop, options
        self._spread = sharded(self.mesh)

    def place(self, members: Sequence[PyTree]) -> PyTree:
        """Returns the members' trees stacked, shared out to the devices."""
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
        return jax.device_put(stacked, self._spread)

    def split(self, stacked: PyTree) -> list[PyTree]:
        """Returns one tree for each member."""
        return split_tree(stacked)

    def with_rows(self, own: dict, name: str, rows: jax.Array) -> dict:
        """Returns the members' inputs, to each of which its row of an array is added by a name."""
        return own | {name: jax.device_put(rows, self._spread)}

    def compile(self, f: MemberFn, example: tuple, *, donate: bool = False) -> Callable:
        """Returns f compiled for all members' states, own inputs and what they share.

        `example` holds these three as the calls will. `donate` hands the states' memory over.
        """
        whole = self._over_devices(self._over_members(f))
        compiled = _compile(whole, example, donate, self._options)
        _check_memory(compiled.memory_analysis(), min(device_memory(self.mesh), default=None))
        return compiled

    def _over_members(self, f: MemberFn) -> MemberFn:
        if not self._loop:
            return jax.vmap(f, in_axes=(0, 0, None))
        return lambda states, own, shared: jax.lax.map(lambda each: f(*each, shared), (states, own))

    def _over_devices(self, f: MemberFn) -> MemberFn:
        if self.mesh.size == 1:
            return f
        spread, whole = self._spread.spec, PartitionSpec()
        specs = {"in_specs": (spread, spread, whole), "out_specs": spread}
        return jax.shard_map(f, mesh=self.mesh, check_vma=False, **specs)


def _compile(
    f: MemberFn, example: tuple, donate: bool, options: dict[str, bool] | None
) -> Callable:
    return jax.jit(f, donate_argnums=(0,) if donate else ()).lower(*example).compile(options)


def _check_memory(needs: Any, available: int | None) -> None:
    if needs is None or available is None:
        return
    parts = needs.argument_size_in_bytes, needs.output_size_in_bytes, needs.temp_size_in_bytes
    total = sum(parts) - needs.alias_size_in_bytes
    if total > available:
        raise RunError(
            f"the members' program needs {total / 2**30:.2g} GiB of each device, which has "
            f"{available / 2**30:.2g}; take fewer members, more devices, a smaller "
            "data.batch_size or population.strategy=map"
        )


def equal_share(members: int, devices: int) -> int:
    """Returns how many devices, at most, can hold equal shares of the members.

    >>> equal_share(16, 8), equal_share(6, 4)
    (8, 3)
    """
    return next(count for count in range(devices, 0, -1) if members % count == 0)
