"""Convolutions of volumes and of sequences made of such of images, for a CPU.

A plane of the output sees as many planes of the input as the kernel is deep. They are laid behind
one another as channels: one convolution of all the output's planes as images. Channels that are on
their own stay so, in a convolution for each plane of the kernel, whose outputs are added. And a
sequence is an image of one row.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn_jax.layers.conv_primitive import Geometry


def by_planes(
    conv: Callable,
    x: Float[Array, "n d h w _"],
    kernel: Float[Array, "fd fh fw _ c_out"],
    *,
    geometry: Geometry,
) -> Float[Array, "n od oh ow c_out"]:
    """Returns the convolution of volumes; `conv(images, kernel, geometry)` is that of images.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv_primitive import Geometry, convolve
    >>> from cnn_jax.layers.cpu_planes import by_planes
    >>> x, kernel = jnp.ones((1, 4, 8, 8, 3)), jnp.ones((3, 3, 3, 3, 16))
    >>> geometry = Geometry(((1, 1),) * 3, strides=(1, 2, 2), dilations=(1, 1, 1))
    >>> by_planes(convolve, x, kernel, geometry=geometry).shape
    (1, 4, 4, 4, 16)
    """
    pairs, strides, groups, dilations = geometry
    flat = Geometry(pairs[1:], strides[1:], groups, dilations[1:])
    depth, *_ = geometry.output_sizes(x.shape, kernel.shape[:3])
    x = jnp.pad(x, ((0, 0), pairs[0], *((0, 0),) * 3))
    starts = range(0, len(kernel) * dilations[0], dilations[0])
    last = (depth - 1) * strides[0]
    seen = [x[:, i : i + last + 1 : strides[0]].reshape(-1, *x.shape[2:]) for i in starts]
    if groups > 1 and kernel.shape[-2] == 1:
        y = sum(conv(*each, flat) for each in zip(seen, kernel, strict=True))
    else:
        apart = [images.reshape(*images.shape[:-1], groups, -1) for images in seen]
        images = jnp.concatenate(apart, -1).reshape(*seen[0].shape[:-1], -1)
        planes = jnp.moveaxis(kernel, 0, 2)
        y = conv(images, planes.reshape(*kernel.shape[1:3], -1, kernel.shape[-1]), flat)
    return y.reshape(x.shape[0], depth, *y.shape[1:])


def as_row(
    conv: Callable,
    x: Float[Array, "n w _"],
    kernel: Float[Array, "fw _ c_out"],
    *,
    geometry: Geometry,
) -> Float[Array, "n ow c_out"]:
    """Returns the convolution of sequences; `conv(images, kernel, geometry)` is that of images.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv_primitive import Geometry, convolve
    >>> from cnn_jax.layers.cpu_planes import as_row
    >>> geometry = Geometry(((1, 1),), strides=(1,), groups=4, dilations=(1,))
    >>> as_row(convolve, jnp.ones((1, 8, 4)), jnp.ones((3, 1, 4)), geometry=geometry).shape
    (1, 8, 4)
    """
    pairs, strides, groups, dilations = geometry
    flat = Geometry(((0, 0), *pairs), (1, *strides), groups, (1, *dilations))
    return conv(x[:, None], kernel[None], flat)[:, 0]
