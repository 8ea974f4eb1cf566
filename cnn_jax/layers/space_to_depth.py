"""A strided convolution as one of stride 1 on more channels.

The first convolution of an ImageNet network has 3 channels, where a GPU's matrix units take 8 or 16
at a time. Folding each s×s block of pixels into channels, of image and kernel alike, gives the same
sums over 3s² channels. ResNet's 7×7 with stride 2 on 224×224×3 becomes a 4×4 on 112×112×12.

On a CPU `cpu_phases.by_folding` is made of it, for channels however many.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.layers.arithmetic import Pairs
from cnn_jax.layers.placement import is_placed

_MOST_CHANNELS = 4


def fits(x: Float[Array, "..."], strides: Sequence[int]) -> bool:
    """Tells whether folding can help: images of few channels, a stride in both dimensions.

    Arrays whose place is told are not taken, as by `cpu_conv.fits`.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.space_to_depth import fits
    >>> fits(jnp.ones((1, 8, 8, 3)), (2, 2))
    True
    """
    known = x.ndim == 4 and all(isinstance(n, int) for n in x.shape[1:]) and not is_placed(x)
    return known and x.shape[-1] <= _MOST_CHANNELS and all(s > 1 for s in strides)


def folded_conv2d(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "fh fw c c_out"],
    *,
    strides: Sequence[int],
    pairs: Pairs,
) -> Float[Array, "n oh ow c_out"]:
    """Convolves (N, H, W, C) with (H, W, C, C_out) after zero padding by (low, high) pairs.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.space_to_depth import folded_conv2d
    >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 16))
    >>> folded_conv2d(x, kernel, strides=(2, 2), pairs=((1, 1), (1, 1))).shape
    (1, 4, 4, 16)
    """
    x, kernel = fold(x, kernel, strides=strides, pairs=pairs)
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=numbers)


def fold(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "fh fw c c_out"],
    *,
    strides: Sequence[int],
    pairs: Pairs,
) -> tuple[Float[Array, "n hh ww cc"], Float[Array, "ffh ffw cc c_out"]]:
    """Returns image and kernel whose convolution, unpadded and with stride 1, is the strided one.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.space_to_depth import fold
    >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 16))
    >>> x, kernel = fold(x, kernel, strides=(2, 2), pairs=((1, 1), (1, 1)))
    >>> x.shape, kernel.shape
    ((1, 5, 5, 12), (2, 2, 12, 16))
    """
    widened, filled = [(0, 0, 0)], []
    for n, f, s, (low, high) in zip(x.shape[1:3], kernel.shape, strides, pairs, strict=False):
        whole = -(-f // s) * s  # of the kernel, in pixels
        out = (n + low + high - f) // s + 1
        widened.append((low, (out - 1) * s + whole - n - low, 0))  # below 0: what no window sees
        filled.append((0, whole - f, 0))
    zero = jnp.zeros((), x.dtype)
    x = _fold(lax.pad(x, zero, [*widened, (0, 0, 0)]), 1, strides)
    return x, _fold(lax.pad(kernel, zero, [*filled, (0, 0, 0), (0, 0, 0)]), 0, strides)


def _fold(array: Array, axis: int, block: Sequence[int]) -> Array:
    """Returns the array with blocks along `axis` and the next folded into the channels behind."""
    (rows, columns), (height, width) = block, array.shape[axis : axis + 2]
    split = (height // rows, rows, width // columns, columns)
    before, after = array.shape[:axis], array.shape[axis + 2 :]
    blocks = array.reshape(*before, *split, *after)
    blocks = jnp.moveaxis(blocks, (axis + 1, axis + 3), (axis + 2, axis + 3))
    channels = rows * columns * after[0]
    return blocks.reshape(*before, split[0], split[2], channels, *after[1:])
