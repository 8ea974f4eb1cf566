"""Brightness, exposure, contrast, saturation, hue and lighting. Results are cut off at 0 and 1."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn_jax.data.augment.draws import Images, PerImage, PRNGKey, Strength, per_image, symmetric
from cnn_jax.errors import InputError

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
# ImageNet's principal colours in the columns, each times its eigenvalue: fb.resnet.torch's numbers.
_PRINCIPAL = (
    (-0.5675 * 0.2175, 0.7192 * 0.0188, 0.4009 * 0.0045),
    (-0.5808 * 0.2175, -0.0045 * 0.0188, -0.8140 * 0.0045),
    (-0.5836 * 0.2175, -0.6948 * 0.0188, 0.4203 * 0.0045),
)


def luminance(images: Images) -> Float[Array, "n h w 1"]:
    """Returns the grey of each pixel: of RGB that of BT.601, else the mean channel.

    >>> green = jnp.array([0.0, 1.0, 0.0]).reshape(1, 1, 1, 3)
    >>> luminance(green).shape, round(luminance(green).item(), 3)
    ((1, 1, 1, 1), 0.587)
    """
    if images.shape[-1] != len(_LUMA):
        return images.mean(axis=-1, keepdims=True)
    # Channel by channel, here and below: sums over an axis of three are slow on a CPU.
    return sum(w * part for w, part in zip(_LUMA, jnp.split(images, 3, axis=-1), strict=True))


def away_from(
    images: Images, origin: Float[Array, "#n #h #w #c"], factor: Float[Array, "#n 1 1 1"]
) -> Images:
    """Returns images whose difference to `origin` is multiplied: 0 is the origin, 1 the image.

    >>> images, origin = jnp.full((1, 1, 1, 3), 0.5), jnp.full((1, 1, 1, 3), 0.25)
    >>> away_from(images, origin, jnp.full((1, 1, 1, 1), 2.0)).ravel().tolist()
    [0.75, 0.75, 0.75]
    """
    return jnp.clip(images + (factor - 1) * (images - origin), 0, 1)


def adjust_brightness(images: Images, *, delta: PerImage) -> Images:
    """Adds `delta` to every channel.

    >>> images = jnp.array([0.25, 0.5, 1.0]).reshape(1, 1, 3, 1)
    >>> adjust_brightness(images, delta=0.25).ravel().tolist()
    [0.5, 0.75, 1.0]
    """
    return jnp.clip(images + per_image(delta, images), 0, 1)


def adjust_exposure(images: Images, *, factor: PerImage) -> Images:
    """Multiplies every channel, as more or less light does.

    >>> images = jnp.array([0.25, 0.5, 1.0]).reshape(1, 1, 3, 1)
    >>> adjust_exposure(images, factor=1.5).ravel().tolist()
    [0.375, 0.75, 1.0]
    """
    return jnp.clip(images * per_image(factor, images), 0, 1)


def adjust_contrast(images: Images, *, factor: PerImage) -> Images:
    """Multiplies the difference to the image's mean luminance; 0 leaves that grey alone.

    >>> images = jnp.array([0.25, 0.5, 0.75]).reshape(1, 1, 3, 1)
    >>> adjust_contrast(images, factor=0.5).ravel().tolist()
    [0.375, 0.5, 0.625]
    """
    mean = luminance(images).mean(axis=(1, 2), keepdims=True)
    return away_from(images, mean, per_image(factor, images))


def adjust_saturation(images: Images, *, factor: PerImage) -> Images:
    """Multiplies the difference to the pixel's luminance; 0 leaves a grey image.

    >>> green = jnp.array([0.0, 1.0, 0.0]).reshape(1, 1, 1, 3)
    >>> [round(value, 3) for value in adjust_saturation(green, factor=0.0).ravel().tolist()]
    [0.587, 0.587, 0.587]
    """
    return away_from(images, luminance(images), per_image(factor, images))


def adjust_hue(images: Images, *, delta: PerImage) -> Images:
    """Turns the hue of RGB images by `delta` of the colour circle, in hue, saturation and value.

    Raises InputError unless there are three channels.

    >>> red = jnp.array([1.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
    >>> adjust_hue(red, delta=1 / 3).round(3).ravel().tolist()
    [0.0, 1.0, 0.0]
    """
    if images.shape[-1] != 3:
        raise InputError(f"hue needs images with 3 channels; these have {images.shape[-1]}")
    red, green, blue = jnp.split(images, 3, axis=-1)
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    hue = 6 * per_image(delta, images) + _hue(red, green, blue, value, chroma)
    # A channel lies below the value by a part of the chroma, a trapezoid of the hue.
    below = [jnp.clip(jnp.minimum(k, 4 - k), 0, 1) for k in ((o + hue) % 6 for o in (5, 3, 1))]
    return jnp.concatenate([value - chroma * part for part in below], axis=-1)


def adjust_lighting(images: Images, *, amounts: Float[Array, "n 3"]) -> Images:
    """Adds to RGB images so much of each of ImageNet's principal colours, as light does that is
    stronger or of another colour (Krizhevsky et al., 2012, section 4.1).

    Raises InputError unless there are three channels.

    >>> images = jnp.full((1, 1, 1, 3), 0.5)
    >>> changed = adjust_lighting(images, amounts=jnp.array([[-1.0, 0.0, 0.0]])).ravel()
    >>> [round(value, 2) for value in changed.tolist()]
    [0.62, 0.63, 0.63]
    """
    if images.shape[-1] != 3:
        raise InputError(f"lighting needs images with 3 channels; these have {images.shape[-1]}")
    colors = jnp.asarray(_PRINCIPAL, images.dtype)
    added = jnp.matmul(amounts.astype(images.dtype), colors.T, precision="highest")
    return jnp.clip(images + added[:, None, None, :], 0, 1)


def _hue(red: Array, green: Array, blue: Array, value: Array, chroma: Array) -> Array:
    """Returns the hue in sixths of the circle, from red over green to blue; that of grey is 0."""
    safe = jnp.where(chroma > 0, chroma, jnp.ones_like(chroma))
    of_red, of_green, of_blue = (
        (green - blue) / safe,
        2 + (blue - red) / safe,
        4 + (red - green) / safe,
    )
    return jnp.where(value == red, of_red, jnp.where(value == green, of_green, of_blue))


def random_brightness(key: PRNGKey, images: Images, *, strength: Strength) -> Images:
    """Adds to each image a number from ±strength.

    >>> import jax
    >>> images = random_brightness(jax.random.key(0), jnp.full((4, 8, 8, 3), 0.5), strength=0.1)
    >>> images.shape, bool((abs(images - 0.5) < 0.11).all())
    ((4, 8, 8, 3), True)
    """
    return adjust_brightness(images, delta=symmetric(key, len(images), strength))


def random_exposure(key: PRNGKey, images: Images, *, strength: Strength) -> Images:
    """Multiplies each image by a factor from 1 ± strength.

    >>> import jax
    >>> images = random_exposure(jax.random.key(0), jnp.full((4, 8, 8, 3), 0.5), strength=0.2)
    >>> images.shape, bool((abs(images - 0.5) < 0.11).all())
    ((4, 8, 8, 3), True)
    """
    return adjust_exposure(images, factor=1 + symmetric(key, len(images), strength))


def random_contrast(key: PRNGKey, images: Images, *, strength: Strength) -> Images:
    """Changes the contrast of each image by a factor from 1 ± strength.

    >>> import jax
    >>> images = random_contrast(jax.random.key(0), jnp.full((4, 8, 8, 3), 0.5), strength=0.5)
    >>> images.shape, bool((abs(images - 0.5) < 0.01).all())  # an even image has no contrast
    ((4, 8, 8, 3), True)
    """
    return adjust_contrast(images, factor=1 + symmetric(key, len(images), strength))


def random_saturation(key: PRNGKey, images: Images, *, strength: Strength) -> Images:
    """Changes the saturation of each image by a factor from 1 ± strength.

    >>> import jax
    >>> images = random_saturation(jax.random.key(0), jnp.full((4, 8, 8, 3), 0.5), strength=0.5)
    >>> images.shape, bool((abs(images - 0.5) < 0.01).all())  # grey has no saturation
    ((4, 8, 8, 3), True)
    """
    return adjust_saturation(images, factor=1 + symmetric(key, len(images), strength))


def random_hue(key: PRNGKey, images: Images, *, strength: Strength) -> Images:
    """Turns the hue of each image by ±strength of the colour circle, 0.5 at most.

    >>> import jax
    >>> images = random_hue(jax.random.key(0), jnp.full((4, 8, 8, 3), 0.5), strength=0.1)
    >>> images.shape, bool((images == 0.5).all())  # grey has no hue
    ((4, 8, 8, 3), True)
    """
    return adjust_hue(images, delta=symmetric(key, len(images), strength))


def random_lighting(key: PRNGKey, images: Images, *, strength: Strength) -> Images:
    """Adds to each image of each principal colour an amount of that standard deviation.

    >>> import jax
    >>> images = random_lighting(jax.random.key(0), jnp.full((4, 8, 8, 3), 0.5), strength=0.1)
    >>> images.shape, bool((abs(images - 0.5) < 0.1).all())
    ((4, 8, 8, 3), True)
    """
    amounts = strength * jax.random.normal(key, (len(images), 3), jnp.float32)
    return adjust_lighting(images, amounts=amounts)
