"""The precision in which sums over many numbers are taken."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def widen(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x in float32 at least: half precision is cast up, wider types stay.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.precision import widen
    >>> widen(jnp.ones(3, jnp.bfloat16)).dtype
    dtype('float32')
    """
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
