"""A convolution of several groups of channels made of such as have one, for a CPU.

And the depthwise one, whose groups are single channels: a sum of the image moved to each place of
the window and multiplied there.
"""

import itertools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn_jax.layers.conv_primitive import Geometry

_FEW = 8  # groups: more are mapped over, which takes a little longer and less to compile


def by_groups(
    conv: Callable,
    x: Float[Array, "n h w _"],
    kernel: Float[Array, "fh fw _ c_out"],
    *,
    geometry: Geometry,
) -> Float[Array, "n oh ow c_out"]:
    """Returns the outputs of all groups; `conv(x, kernel, geometry=geometry)` is for one.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv_primitive import Geometry, convolve
    >>> from cnn_jax.layers.cpu_groups import by_groups
    >>> geometry = Geometry(((0, 0), (0, 0)), groups=2)
    >>> by_groups(convolve, jnp.ones((1, 2, 2, 6)), jnp.ones((1, 1, 3, 8)), geometry=geometry).shape
    (1, 2, 2, 8)
    """
    parts = [jnp.split(array, geometry.groups, -1) for array in (x, kernel)]
    conv = partial(conv, geometry=geometry._replace(groups=1))
    if geometry.groups <= _FEW:
        return jnp.concatenate([conv(*part) for part in zip(*parts, strict=True)], -1)
    y = jax.vmap(conv, out_axes=-2)(*map(jnp.stack, parts))
    return y.reshape(*y.shape[:-2], -1)


def depthwise(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "fh fw 1 c_out"],
    *,
    geometry: Geometry,
) -> Float[Array, "n oh ow c_out"]:
    """Convolves every channel on its own.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv_primitive import Geometry
    >>> from cnn_jax.layers.cpu_groups import depthwise
    >>> x, kernel = jnp.ones((1, 5, 5, 2)), jnp.ones((3, 3, 1, 6))
    >>> geometry = Geometry(((1, 1), (1, 1)), strides=(2, 2), groups=2)
    >>> depthwise(x, kernel, geometry=geometry).shape
    (1, 3, 3, 6)
    """
    pairs, (rows, columns), _, dilations = geometry
    x = jnp.pad(x, ((0, 0), *pairs, (0, 0)))
    x = jnp.repeat(x, kernel.shape[-1] // x.shape[-1], -1)
    down, along = dilations
    sides = zip(x.shape[1:3], kernel.shape[:2], dilations, strict=True)
    height, width = (n - (f - 1) * d for n, f, d in sides)
    places = itertools.product(*map(range, kernel.shape[:2]))
    return sum(
        x[:, i * down : i * down + height : rows, j * along : j * along + width : columns]
        * kernel[None, i : i + 1, j : j + 1, 0]
        for i, j in places
    )
