"""Dense layers and the reshaping around them."""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

from cnn_jax.layers.arithmetic import Padding, padding_pair, padding_per_dimension
from cnn_jax.layers.precision import check_floating


def add_bias(
    x: Float[Array, "*batch c"], bias: Float[Array, "_"] | None
) -> Float[Array, "*batch c"]:
    """Adds one number per channel, the last axis, in x's dtype; None adds nothing.

    Raises ValueError if there is not exactly one bias for each channel.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.linear import add_bias
    >>> add_bias(jnp.zeros((1, 2)), jnp.array([1.0, 2.0])).tolist()
    [[1.0, 2.0]]
    """
    if bias is None:
        return x
    if bias.shape != x.shape[-1:]:
        raise ValueError(f"bias has shape {bias.shape}, where {x.shape[-1:]} is needed")
    return x + jnp.expand_dims(bias.astype(x.dtype), tuple(range(x.ndim - 1)))


def dense(
    x: Float[Array, "*batch _"],
    kernel: Float[Array, "_ c_out"],
    bias: Float[Array, "_"] | None = None,
) -> Float[Array, "*batch c_out"]:
    """Multiplies the last axis with a kernel (C_in, C_out) and adds a bias (C_out,).

    Kernel and bias are cast to x's dtype, which the output has too.

    Raises:
        ValueError: if the kernel is not a matrix with one row for each input feature, or the input
            is of integers.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.linear import dense
    >>> dense(jnp.ones((2, 3)), jnp.ones((3, 4)), jnp.ones(4)).tolist()[0]
    [4.0, 4.0, 4.0, 4.0]
    """
    check_floating(x)
    if kernel.ndim != 2 or x.ndim < 1 or x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"dense kernel of shape {kernel.shape} does not fit an input of shape {x.shape}: "
            "the kernel is (C_in, C_out), the input (..., C_in)"
        )
    return add_bias(jnp.matmul(x, kernel.astype(x.dtype)), bias)


def flatten(x: Shaped[Array, "n *rest"]) -> Shaped[Array, "n f"]:
    """Flattens all but the first axis in C order: channels vary fastest, then width, then height.

    Weights from a channels-first framework need their rows permuted to follow it.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.linear import flatten
    >>> flatten(jnp.ones((2, 7, 7, 16))).shape
    (2, 784)
    """
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))  # -1 fails for an empty batch


def zero_pad(x: Float[Array, "n *spatial c"], *, padding: Padding) -> Float[Array, "n *padded c"]:
    """Surrounds the spatial axes of (N, *spatial, C) with zeros.

    Args:
        x: the input.
        padding: an int for every side, or one (low, high) pair per spatial dimension.

    Raises:
        ValueError: for a negative padding or the wrong number of pairs.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.linear import zero_pad
    >>> zero_pad(jnp.ones((1, 28, 28, 1)), padding=2).shape
    (1, 32, 32, 1)
    """
    if isinstance(padding, str):
        raise ValueError(f"zero_pad takes padding in numbers, not {padding!r}")
    sizes = x.shape[1:-1]
    paddings = padding_per_dimension(padding, len(sizes))
    pairs = [padding_pair(n, 1, padding=p) for n, p in zip(sizes, paddings, strict=True)]
    config = [(0, 0, 0), *((low, high, 0) for low, high in pairs), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)
