"""Strided and dilated convolutions made of plain ones, for a CPU.

With stride s every s-th row and column of the kernel, from a and b on, meets every s-th row and
column of the image alone: s² smaller convolutions, of one phase (a, b) each, whose outputs are
added. Or the phases are laid behind one another as channels (`space_to_depth`): one convolution,
which multiplies some zeros too where the kernel is no multiple of the stride.

With dilation d a window meets pixels of one phase alone: d² smaller images, convolved as they are.
"""

import itertools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.layers.cpu_patches import Pairs
from cnn_jax.layers.space_to_depth import fold


def by_phases(
    conv: Callable,
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "fh fw c c_out"],
    *,
    strides: Sequence[int],
    pairs: Pairs,
) -> Float[Array, "n oh ow c_out"]:
    """Returns the strided convolution; `conv(x, kernel)` moves by one pixel and doesn't pad.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.cpu_conv import Geometry, conv2d
    >>> from cnn_jax.layers.cpu_phases import by_phases
    >>> conv = lambda x, kernel: conv2d(x, kernel, Geometry(((0, 0), (0, 0))))
    >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 16))
    >>> by_phases(conv, x, kernel, strides=(2, 2), pairs=((1, 1), (1, 1))).shape
    (1, 4, 4, 16)
    """
    steps = list(zip(strides, kernel.shape[:2], strict=True))
    widened, outputs = [(0, 0, 0)], []
    for (s, f), n, (low, high) in zip(steps, x.shape[1:3], pairs, strict=True):
        out = (n + low + high - f) // s + 1
        whole = (out - 1 + -(-f // s)) * s  # what the windows see, in whole strides
        widened.append((low, whole - n - low, 0))  # below 0: what no window sees
        outputs.append(out)
    x = lax.pad(x, jnp.zeros((), x.dtype), [*widened, (0, 0, 0)])
    (rows, columns), (n, height, width, c) = strides, x.shape
    x = x.reshape(n, height // rows, rows, width // columns, columns, c)
    total = 0
    for a, b in itertools.product(*(range(min(s, f)) for s, f in steps)):
        part = kernel[a::rows, b::columns]
        tall, wide = (out + f - 1 for out, f in zip(outputs, part.shape[:2], strict=True))
        total += conv(x[:, :tall, a, :wide, b], part)
    return total


def by_folding(
    conv: Callable,
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "fh fw c c_out"],
    *,
    strides: Sequence[int],
    pairs: Pairs,
) -> Float[Array, "n oh ow c_out"]:
    """Returns the same from the one convolution.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.cpu_phases import by_folding
    >>> one_pixel = lambda x, kernel: x @ kernel[0, 0]
    >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((4, 4, 3, 16))
    >>> by_folding(one_pixel, x, kernel, strides=(4, 4), pairs=((0, 0), (0, 0))).shape
    (1, 2, 2, 16)
    """
    return conv(*fold(x, kernel, strides=strides, pairs=pairs))


def dilated(
    conv: Callable,
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "fh fw c c_out"],
    *,
    dilations: Sequence[int],
    pairs: Pairs,
) -> Float[Array, "n oh ow c_out"]:
    """Returns the dilated convolution; `conv(x, kernel)` is not dilated and doesn't pad.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.cpu_conv import Geometry, conv2d
    >>> from cnn_jax.layers.cpu_phases import dilated
    >>> conv = lambda x, kernel: conv2d(x, kernel, Geometry(((0, 0), (0, 0))))
    >>> x, kernel = jnp.ones((1, 8, 7, 3)), jnp.ones((3, 3, 3, 16))
    >>> dilated(conv, x, kernel, dilations=(2, 2), pairs=((2, 2), (2, 2))).shape
    (1, 8, 7, 16)
    """
    widened, outputs = [(0, 0, 0)], []
    for n, f, d, (low, high) in zip(x.shape[1:3], kernel.shape, dilations, pairs, strict=False):
        out = n + low + high - (f - 1) * d
        whole = (-(-out // d) + f - 1) * d
        widened.append((low, whole - n - low, 0))
        outputs.append(out)
    x = lax.pad(x, jnp.zeros((), x.dtype), [*widened, (0, 0, 0)])
    (rows, columns), (n, height, width, c) = dilations, x.shape
    x = x.reshape(n, height // rows, rows, width // columns, columns, c)
    x = x.transpose(0, 2, 4, 1, 3, 5).reshape(-1, height // rows, width // columns, c)
    y = conv(x, kernel)
    y = y.reshape(n, rows, columns, *y.shape[1:]).transpose(0, 3, 1, 4, 2, 5)
    y = y.reshape(n, y.shape[1] * rows, y.shape[3] * columns, -1)
    return y[:, : outputs[0], : outputs[1]]
