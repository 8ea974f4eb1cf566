"""Dense layers and the reshaping around them."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

from cnn_jax.layers.arithmetic import Padding, padding_pair, padding_per_dimension
from cnn_jax.layers.placement import is_placed
from cnn_jax.layers.precision import check_floating

_PIXELS = 4  # whose few channels make a row


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
    bias = bias.astype(x.dtype)
    return x + (_repeated if _by_product(x) else _spread)(bias, x.shape)


def _spread(bias: Array, shape: tuple[int, ...]) -> Array:
    return lax.broadcast_in_dim(bias, shape, (len(shape) - 1,))


# The bias's gradient is the sum over pixels. On a CPU LLVM finds vectors in 4, 8 and more channels,
# but not in fewer or in 6; a product of ones with rows of several pixels has them.


def _by_product(x: Array) -> bool:
    """Tells whether on a CPU the bias's gradient is faster as a product than as a sum."""
    if x.ndim != 4 or x.dtype != jnp.float32 or is_placed(x):
        return False
    width, channels = x.shape[2:]
    concrete = all(isinstance(n, int) and n > 0 for n in x.shape)
    return concrete and channels < 8 and channels % 4 != 0 and width % _PIXELS == 0


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _repeated(bias: Array, shape: tuple[int, ...]) -> Array:
    return _spread(bias, shape)


@_repeated.defjvp
def _repeated_jvp(shape: tuple, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    def as_product(tangent: Array) -> Array:
        row = jnp.tile(tangent, _PIXELS)[None]
        ones = jnp.ones((math.prod(shape) // row.size, 1), row.dtype)  # not float64 in 64-bit mode
        return (ones @ row).reshape(shape)

    (bias,), (tangent,) = primals, tangents
    spread = partial(_spread, shape=shape)
    return spread(bias), lax.platform_dependent(tangent, cpu=as_product, default=spread)


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
