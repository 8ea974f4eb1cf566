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

from cnn_jax.layers.conv_primitive import Geometry
from cnn_jax.layers.space_to_depth import fold


def by_phases(
    conv: Callable,
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "fh fw c c_out"],
    *,
    geometry: Geometry,
) -> Float[Array, "n oh ow c_out"]:
    """Returns the strided convolution; `conv(x, kernel)` moves by one pixel and doesn't pad.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv_primitive import Geometry, convolve
    >>> from cnn_jax.layers.cpu_phases import by_phases
    >>> conv = lambda x, kernel: convolve(x, kernel, Geometry(((0, 0), (0, 0))))
    >>> geometry = Geometry(((1, 1), (1, 1)), strides=(2, 2))
    >>> by_phases(conv, jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 16)), geometry=geometry).shape
    (1, 4, 4, 16)
    """
    strides, window = geometry.strides, kernel.shape[:2]
    outputs = geometry.output_sizes(x.shape, window)
    seen = [out - 1 + -(-f // s) for out, f, s in zip(outputs, window, strides, strict=True)]
    x, (rows, columns), total = _apart(x, geometry, strides, seen), strides, 0
    for a, b in itertools.product(*map(range, map(min, strides, window))):
        part = kernel[a::rows, b::columns]
        tall, wide = (out + f - 1 for out, f in zip(outputs, part.shape[:2], strict=True))
        total += conv(x[:, :tall, a, :wide, b], part)
    return total


def by_folding(
    conv: Callable,
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "fh fw c c_out"],
    *,
    geometry: Geometry,
) -> Float[Array, "n oh ow c_out"]:
    """Returns the same from one convolution of the folded image and kernel."""
    return conv(*fold(x, kernel, strides=geometry.strides, pairs=geometry.pairs))


def dilated(
    conv: Callable,
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "fh fw c c_out"],
    *,
    geometry: Geometry,
) -> Float[Array, "n oh ow c_out"]:
    """Returns the dilated convolution; `conv(x, kernel)` is not dilated and doesn't pad.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv_primitive import Geometry, convolve
    >>> from cnn_jax.layers.cpu_phases import dilated
    >>> conv = lambda x, kernel: convolve(x, kernel, Geometry(((0, 0), (0, 0))))
    >>> geometry = Geometry(((2, 2), (2, 2)), dilations=(2, 2))
    >>> dilated(conv, jnp.ones((1, 8, 7, 3)), jnp.ones((3, 3, 3, 16)), geometry=geometry).shape
    (1, 8, 7, 16)
    """
    dilations, window = geometry.dilations, kernel.shape[:2]
    height, width = outputs = geometry.output_sizes(x.shape, window)
    seen = [-(-out // d) + f - 1 for out, f, d in zip(outputs, window, dilations, strict=True)]
    (n, *_, c), (rows, columns) = x.shape, dilations
    x = _apart(x, geometry, dilations, seen).transpose(0, 2, 4, 1, 3, 5)
    y = conv(x.reshape(-1, *seen, c), kernel)
    y = y.reshape(n, rows, columns, *y.shape[1:]).transpose(0, 3, 1, 4, 2, 5)
    return y.reshape(n, y.shape[1] * rows, y.shape[3] * columns, -1)[:, :height, :width]


def _apart(
    x: Float[Array, "n h w c"], geometry: Geometry, steps: Sequence[int], seen: Sequence[int]
) -> Float[Array, "n rows down columns along c"]:
    """Returns the padded image with its phases apart: of each the pixels that windows see."""
    sides = zip(x.shape[1:3], geometry.pairs, steps, seen, strict=True)
    # Below zero: what no window sees.
    widened = [(low, count * step - n - low, 0) for n, (low, _), step, count in sides]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *widened, (0, 0, 0)])
    return x.reshape(x.shape[0], seen[0], steps[0], seen[1], steps[1], x.shape[-1])
