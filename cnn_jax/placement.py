"""From arrays on the host to arrays on all devices of a mesh, in one process or in many."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that puts a whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def sharded(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the leading axis of an array over the devices."""
    return NamedSharding(mesh, PartitionSpec(*mesh.axis_names))


def place(arrays: PyTree, sharding: jax.sharding.Sharding) -> PyTree:
    """Returns host arrays, of which every process holds the whole, placed as `sharding` says."""
    if jax.process_count() == 1:
        return jax.device_put(arrays, sharding)

    def put(x: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(x.shape, sharding, np.asarray(x).__getitem__)

    return jax.tree.map(put, arrays)


def shards(sharding: NamedSharding) -> int:
    """Returns into how many parts a sharding splits the leading axis.

    >>> mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    >>> shards(NamedSharding(mesh, PartitionSpec("data")))
    1
    """
    leading = sharding.spec[0] if sharding.spec else None
    return 1 if leading is None else sharding.mesh.shape[leading]
