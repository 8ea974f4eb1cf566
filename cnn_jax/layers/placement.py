"""Whether it is told where an array lies: such arrays can't be cut and reshaped at will."""

import jax
from jax.sharding import AxisType
from jaxtyping import Array


def is_placed(x: Array) -> bool:
    """Tells whether an array is mapped by `shard_map` or has an explicit sharding.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.placement import is_placed
    >>> is_placed(jnp.ones(3))
    False
    """
    return any(kind != AxisType.Auto for kind in jax.typeof(x).sharding.mesh.axis_types)
