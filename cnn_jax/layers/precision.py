"""The type in which a layer computes: its input's, and that of sums over many numbers."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def check_floating(x: Shaped[Array, "*shape"]) -> None:
    """Raises ValueError for an input of integers.

    Cast to their type, as kernels are to the input's, weights would round to zero unseen.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.precision import check_floating
    >>> check_floating(jnp.ones(3, jnp.bfloat16))
    """
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise ValueError(f"the input must hold floating-point numbers; it is of type {x.dtype}")


def widen(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x in float32 at least: half precision is cast up, wider types stay.

    Raises ValueError for integers.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.precision import widen
    >>> widen(jnp.ones(3, jnp.bfloat16)).dtype
    dtype('float32')
    """
    check_floating(x)
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
