"""Posterize, solarize, autocontrast, equalize: changes of the tone curve, as Pillow does them."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from cnn_jax.data.augment.draws import Images, PerImage, per_image


def posterize(images: Images, *, bits: PerImage) -> Images:
    """Keeps the highest `bits` of the 8 bits of every pixel.

    >>> levels = jnp.array([1.0, 100.0, 255.0]).reshape(1, 1, 3, 1) / 255
    >>> (posterize(levels, bits=2) * 255).round().ravel().tolist()
    [0.0, 64.0, 192.0]
    """
    step = jnp.exp2(8 - per_image(bits, images))
    return jnp.floor(jnp.round(images * 255) / step) * step / 255


def solarize(images: Images, *, threshold: PerImage) -> Images:
    """Inverts the pixels at or above the threshold; above 1 it changes nothing.

    >>> images = jnp.array([0.25, 0.5, 0.75, 1.0]).reshape(1, 1, 4, 1)
    >>> solarize(images, threshold=0.75).ravel().tolist()
    [0.25, 0.5, 0.25, 0.0]
    """
    return jnp.where(images >= per_image(threshold, images), 1 - images, images)


def autocontrast(images: Images) -> Images:
    """Stretches each channel of each image to reach from 0 to 1; a constant one stays.

    >>> autocontrast(jnp.array([0.25, 0.375, 0.5]).reshape(1, 1, 3, 1)).ravel().tolist()
    [0.0, 0.5, 1.0]
    """
    low = images.min(axis=(1, 2), keepdims=True)
    span = images.max(axis=(1, 2), keepdims=True) - low
    stretched = (images - low) / jnp.where(span > 0, span, jnp.ones_like(span))
    return jnp.where(span > 0, stretched, images)


def equalize(images: Images) -> Images:
    """Gives each channel of each image an even histogram of its 256 levels.

    One stays as it is, as in Pillow, where fewer than 255 pixels are darker than the brightest.

    >>> dark = (jnp.arange(1024.0) / 2048).reshape(1, 32, 32, 1)
    >>> round(dark.max().item(), 2), equalize(dark).max().item()
    (0.5, 1.0)
    """
    n, h, w, c = images.shape
    levels = jnp.round(images * 255).astype(jnp.int32).reshape(n, h * w, c)
    curves = _equalizing_curves(_histograms(levels))
    return (jnp.take_along_axis(curves, levels, axis=1).astype(images.dtype) / 255).reshape(
        images.shape
    )


def _histograms(levels: Int[Array, "n p c"]) -> Int[Array, "n 256 c"]:
    n, _, c = levels.shape
    at = (jnp.arange(n)[:, None, None], levels, jnp.arange(c)[None, None, :])
    return jnp.zeros((n, 256, c), jnp.int32).at[at].add(1)


def _equalizing_curves(counts: Int[Array, "n 256 c"]) -> Int[Array, "n 256 c"]:
    """Returns the new level of every level: its rank in steps that leave out the brightest one."""
    total = counts.cumsum(axis=1)
    pixels = total[:, -1:]
    brightest = jnp.max(jnp.where(total < pixels, total, 0), axis=1, keepdims=True)
    step = brightest // 255
    curves = (step // 2 + total - counts) // jnp.maximum(step, 1)
    unchanged = jnp.arange(256, dtype=jnp.int32).reshape(1, 256, 1)
    return jnp.where(step > 0, jnp.minimum(curves, 255), unchanged)
