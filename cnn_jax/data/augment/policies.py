"""TrivialAugment and RandAugment: each image gets operations drawn from one list of fourteen.

Both were defined by what Pillow does to 8-bit images; here a whole batch goes through a few passes,
and of each an image takes its part. Unlike the authors' code, a greater magnitude always means a
stronger change, and geometric operations interpolate.
"""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cnn_jax.data.augment import geometry, tones
from cnn_jax.data.augment.color import away_from, luminance
from cnn_jax.data.augment.draws import Images, PRNGKey, Strength, per_image
from cnn_jax.data.augment.filters import smooth


class Operation(enum.IntEnum):
    """The operations; colour is saturation, and brightness is a factor."""

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    BRIGHTNESS = 6
    COLOR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10
    SOLARIZE = 11
    AUTOCONTRAST = 12
    EQUALIZE = 13


class Ranges(NamedTuple):
    """What each kind of operation does at full magnitude."""

    shear: float  # pixels per pixel, from the upper left corner
    translate_x: float  # pixels
    translate_y: float
    rotate: float  # degrees
    factor: float  # brightness, colour, contrast and sharpness: how far from 1
    bits: float  # posterize: how many of the 8 are lost


def trivial_augment(key: PRNGKey, images: Images, *, border: str = "zero") -> Images:
    """Does one random operation at a random one of 31 magnitudes to each image (arXiv 2103.10158).

    The ranges are those of the paper's wide search space. There is nothing to tune.

    >>> jax.jit(trivial_augment)(jax.random.key(0), jnp.ones((2, 8, 8, 3))).shape
    (2, 8, 8, 3)
    """
    n = len(images)
    operation_key, magnitude_key, sign_key = jax.random.split(key, 3)
    which = jax.random.randint(operation_key, (n,), 0, len(Operation))
    magnitude = jax.random.randint(magnitude_key, (n,), 0, 31) / 30 * _signs(sign_key, n)
    return apply_operation(images, which, magnitude, ranges=_WIDE, border=border)


_WIDE = Ranges(shear=0.99, translate_x=32, translate_y=32, rotate=135, factor=0.99, bits=6)


def rand_augment(
    key: PRNGKey, images: Images, *, operations: int, magnitude: Strength, border: str = "zero"
) -> Images:
    """Does several random operations to each image, all of one magnitude (arXiv 1909.13719).

    `operations` is the paper's N, `magnitude` its M, from 0 to 10. At 0, autocontrast and equalize
    alone change images of 256 levels.

    >>> change = jax.jit(rand_augment, static_argnames="operations")
    >>> change(jax.random.key(0), jnp.ones((2, 8, 8, 3)), operations=2, magnitude=9.0).shape
    (2, 8, 8, 3)
    """
    n, h, w, _ = images.shape
    ranges = Ranges(
        shear=0.3,
        translate_x=w * 100 / 331,
        translate_y=h * 100 / 331,
        rotate=30,
        factor=0.9,
        bits=4,
    )

    def step(images: Images, step_key: PRNGKey) -> tuple[Images, None]:
        operation_key, sign_key = jax.random.split(step_key)
        which = jax.random.randint(operation_key, (n,), 0, len(Operation))
        signed = magnitude / 10 * _signs(sign_key, n)
        return apply_operation(images, which, signed, ranges=ranges, border=border), None

    # A loop compiles once for all operations and, on a CPU, runs twice as fast as their chain.
    return jax.lax.scan(step, images, jax.random.split(key, operations))[0]


def _signs(key: PRNGKey, count: int) -> Float[Array, " {count}"]:
    return jnp.where(jax.random.bernoulli(key, 0.5, (count,)), 1.0, -1.0)


def apply_operation(
    images: Images,
    which: Int[Array, " n"],
    magnitude: Float[Array, " n"],
    *,
    ranges: Ranges,
    border: str = "zero",
) -> Images:
    """Does to each image the operation `which`, a number of `Operation`.

    `magnitude` is from −1 to 1; posterize and solarize take no notice of its sign, autocontrast
    and equalize none of it at all.

    >>> images, which = jnp.full((2, 4, 4, 1), 0.75), jnp.array([Operation.SOLARIZE, 0])
    >>> ranges = Ranges(0.3, 10.0, 10.0, 30.0, factor=0.9, bits=4.0)
    >>> change = jax.jit(apply_operation, static_argnames="ranges")
    >>> change(images, which, jnp.full(2, 0.5), ranges=ranges)[:, 0, 0, 0].tolist()
    [0.25, 0.75]
    """
    images = geometry.warp(images, _matrices(images, which, magnitude, ranges), border=border)
    changed = _enhance(images, which, magnitude * ranges.factor)
    strength = jnp.abs(magnitude)
    bits = 8 - jnp.round(strength * ranges.bits)
    threshold = (1 - strength) * 256 / 255  # 256 of 255, so that nothing inverts not even white
    for operation, result in (
        (Operation.POSTERIZE, tones.posterize(images, bits=bits)),
        (Operation.SOLARIZE, tones.solarize(images, threshold=threshold)),
        (Operation.AUTOCONTRAST, tones.autocontrast(images)),
        (Operation.EQUALIZE, tones.equalize(images)),
    ):
        changed = jnp.where((which == operation)[:, None, None, None], result, changed)
    return changed


def _matrices(
    images: Images, which: Int[Array, " n"], magnitude: Float[Array, " n"], ranges: Ranges
) -> Float[Array, "n 3 3"]:
    """Returns the inverse maps; the identity where the operation isn't geometric."""
    _, h, w, _ = images.shape

    def amount(operation: Operation, limit: float) -> Float[Array, " n"]:
        return jnp.where(which == operation, magnitude * limit, jnp.zeros_like(magnitude))

    shear_x, shear_y = (amount(o, ranges.shear) for o in (Operation.SHEAR_X, Operation.SHEAR_Y))
    move_x = amount(Operation.TRANSLATE_X, ranges.translate_x) + shear_x * (h / 2)
    move_y = amount(Operation.TRANSLATE_Y, ranges.translate_y) + shear_y * (w / 2)
    return geometry.compose(
        geometry.shearing(shear_x, shear_y),
        geometry.rotation(amount(Operation.ROTATE, ranges.rotate)),
        geometry.translation(move_x, move_y),
    )


def _enhance(images: Images, which: Int[Array, " n"], change: Float[Array, " n"]) -> Images:
    """Does the four operations that move an image away from some plainer image, in one pass."""
    grey = luminance(images)
    origins = {
        Operation.BRIGHTNESS: jnp.zeros_like(images),
        Operation.COLOR: jnp.broadcast_to(grey, images.shape),
        Operation.CONTRAST: jnp.broadcast_to(grey.mean(axis=(1, 2), keepdims=True), images.shape),
        Operation.SHARPNESS: smooth(images),
    }
    origin = images
    for operation, plain in origins.items():
        origin = jnp.where((which == operation)[:, None, None, None], plain, origin)
    return away_from(images, origin, 1 + per_image(change, images))
