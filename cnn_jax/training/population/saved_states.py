"""What a population's checkpoint holds: its members' last and best states, stacked.

Beside them lies each member's `progress`. The best states are there where a validation split is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding
from jaxtyping import PyTree

from cnn_jax.training.checkpoint import abstract
from cnn_jax.training.population.host_trees import split_tree, stack_trees
from cnn_jax.training.population.standing import Member
from cnn_jax.training.setup import Experiment, abstract_state

Saved = dict[str, PyTree]  # "last" and perhaps "best", each with a leading axis of members


def template(pattern: Experiment, members: int) -> Saved:
    """Returns the shapes of what is saved of so many members, to be restored on one device."""
    stacked = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((members, *leaf.shape), leaf.dtype),
        abstract_state(pattern),
    )
    names = ("last", "best") if _with_best(pattern) else ("last",)
    sharding = SingleDeviceSharding(pattern.mesh.devices.flat[0])
    return {name: abstract(stacked, sharding) for name in names}


def to_save(members: Sequence[Member], states: Mapping[int, PyTree]) -> Saved:
    """Returns the last state of each member, and its best, which is the last where none is better.

    `states` are those of the members that are computed, by number, on the host.
    """
    lasts = [states[m.number] if m.state is None else m.state for m in members]
    if not _with_best(members[0].experiment):
        return {"last": stack_trees(lasts)}
    pairs = zip(members, lasts, strict=True)
    bests = [member.best_state if member.best else last for member, last in pairs]
    return {"last": stack_trees(lasts), "best": stack_trees(bests)}


def recall(
    members: Sequence[Member], saved: Saved, progress: Sequence[Mapping[str, Any]]
) -> list[PyTree]:
    """Takes up what a checkpoint held of each member; returns the last states, in their order."""
    lasts = split_tree(saved["last"])
    bests = split_tree(saved["best"]) if "best" in saved else lasts
    for member, *held in zip(members, progress, lasts, bests, strict=True):
        member.recall(*held)
    return lasts


def _with_best(experiment: Experiment) -> bool:
    return experiment.dataset.validation is not None
