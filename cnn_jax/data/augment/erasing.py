"""Cutout and random erasing: a box of each image is painted over."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from cnn_jax.data.augment.draws import Images, PRNGKey, Strength, chosen, per_image

_AREA, _ASPECT = (0.02, 0.33), 10 / 3  # of random erasing's box; as its authors choose them


def box_mask(
    top: Int[Array, " n"],
    left: Int[Array, " n"],
    height: Int[Array, " n"],
    width: Int[Array, " n"],
    *,
    shape: tuple[int, int],
) -> Bool[Array, "n h w 1"]:
    """Returns which pixels of (H, W) images lie in a box; boxes may reach beyond the image.

    >>> one, two = jnp.array([1]), jnp.array([2])
    >>> box_mask(one, one, one, two, shape=(3, 3))[0, :, :, 0].astype(int).tolist()
    [[0, 0, 0], [0, 1, 1], [0, 0, 0]]
    """
    top, left, height, width = (a[:, None] for a in (top, left, height, width))
    at_row, at_column = (jnp.arange(size, dtype=top.dtype)[None] for size in shape)
    rows = (at_row >= top) & (at_row < top + height)
    columns = (at_column >= left) & (at_column < left + width)
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def random_cutout(key: PRNGKey, images: Images, *, size: int, fill: Strength = 0.5) -> Images:
    """Paints over a square of `size` pixels around a random pixel (arXiv 1708.04552).

    The centre is anywhere in the image, so that part of the square may lie outside.

    >>> images = random_cutout(jax.random.key(0), jnp.ones((2, 8, 8, 3)), size=4)
    >>> images.shape, sorted(set(images.ravel().tolist()))
    ((2, 8, 8, 3), [0.5, 1.0])
    """
    n, h, w, _ = images.shape
    centres = jax.random.randint(key, (2, n), 0, jnp.asarray([[h], [w]]))
    top, left = centres - size // 2
    side = jnp.full(n, size)
    mask = box_mask(top, left, side, side, shape=(h, w))
    return jnp.where(mask, per_image(fill, images), images)


def random_erasing(key: PRNGKey, images: Images, *, probability: Strength) -> Images:
    """Fills, with the given probability, a box of an image with noise (arXiv 1708.04896, RE-R).

    The box takes 2% to 33% of the image, its aspect ratio is from 0.3 to 10/3, it lies inside, and
    each value in it is drawn evenly from [0, 1]. Its sides are rounded to whole pixels, and an
    image more elongated than that has boxes that are so, too.

    >>> erased = random_erasing(jax.random.key(0), jnp.ones((1, 32, 32, 3)), probability=1.0)
    >>> erased.shape, bool(0.02 < (erased < 1).mean() < 0.33)
    ((1, 32, 32, 3), True)
    """
    n, h, w, _ = images.shape
    choose_key, box_key, noise_key = jax.random.split(key, 3)
    mask = _erasing_boxes(box_key, n, (h, w)) & chosen(choose_key, n, probability)
    return jnp.where(mask, jax.random.uniform(noise_key, images.shape, images.dtype), images)


def _erasing_boxes(key: PRNGKey, n: int, shape: tuple[int, int]) -> Bool[Array, "n h w 1"]:
    h, w = shape
    draws = jax.random.uniform(key, (4, n))
    area = h * w * (_AREA[0] + (_AREA[1] - _AREA[0]) * draws[0])
    # Of the aspect ratios those that fit in the image, so that no draw has to be thrown away.
    low = jnp.log(jnp.maximum(area / (h * h), 1 / _ASPECT))
    high = jnp.log(jnp.minimum(w * w / area, _ASPECT))
    ratio = jnp.exp(low + (high - low) * draws[1])
    height = jnp.clip(jnp.round(jnp.sqrt(area / ratio)), 1, h)
    width = jnp.clip(jnp.round(jnp.sqrt(area * ratio)), 1, w)
    top = jnp.floor(draws[2] * (h - height + 1))
    left = jnp.floor(draws[3] * (w - width + 1))
    return box_mask(*(a.astype(jnp.int32) for a in (top, left, height, width)), shape=shape)
