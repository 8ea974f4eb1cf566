"""A network's variables as a flat table, "conv1/kernel" → array, and back."""

from collections.abc import Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from cnn_jax.errors import InputError

Arrays = dict[str, np.ndarray]

CONSTANTS = "normalization/"  # before the names of a run's normalisation constants in a file


def by_name(variables: Mapping[str, PyTree]) -> Arrays:
    """Returns every array of the variables by its layer and name; no two collections share one.

    >>> from cnn_jax.weights.names import by_name
    >>> sorted(by_name({"params": {"norm1": {"scale": 1}}, "batch_stats": {"norm1": {"mean": 0}}}))
    ['norm1/mean', 'norm1/scale']
    """
    trees = [flatten_dict(tree, sep="/") for tree in variables.values()]
    return {name: np.asarray(array) for tree in trees for name, array in tree.items()}


def to_variables(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, PyTree]) -> PyTree:
    """Returns the arrays in the form of `shapes`, a network's variables as shapes and types.

    Raises:
      InputError: an array is missing, superfluous or of another shape.
    """
    named = {collection: flatten_dict(tree, sep="/") for collection, tree in shapes.items()}
    known = {name: leaf for tree in named.values() for name, leaf in tree.items()}
    for name in sorted({*known, *arrays}):
        wanted = tuple(known[name].shape) if name in known else "absent"
        found = tuple(arrays[name].shape) if name in arrays else "absent"
        if wanted != found:
            raise InputError(f"{name} is {found} in the file and {wanted} in the network")
    return {
        collection: unflatten_dict(
            {name: np.asarray(arrays[name], leaf.dtype) for name, leaf in tree.items()}, sep="/"
        )
        for collection, tree in named.items()
    }
