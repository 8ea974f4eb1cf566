"""The members' trees of arrays on the host: copied there, stacked, and split again."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import PyTree


def on_host(tree: PyTree) -> PyTree:
    """Returns copies on the host: the next step may overwrite the arrays of this one."""
    return jax.tree.map(np.array, jax.device_get(tree))


def stack_trees(trees: Sequence[PyTree]) -> PyTree:
    """Returns one tree whose arrays have a leading axis of members.

    >>> stack_trees([{"a": np.float32(1)}, {"a": np.float32(2)}])["a"].tolist()
    [1.0, 2.0]
    """
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def split_tree(tree: PyTree) -> list[PyTree]:
    """Returns one tree for each member, of one whose arrays have a leading axis of members."""
    leaves, structure = jax.tree.flatten(tree)
    return [jax.tree.unflatten(structure, each) for each in zip(*leaves, strict=True)]
