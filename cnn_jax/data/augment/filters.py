"""Gaussian blur, sharpness and Gaussian noise."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn_jax.data.augment.color import away_from
from cnn_jax.data.augment.draws import Images, PerImage, PRNGKey, Strength, per_image


def gaussian_blur(images: Images, *, sigma: PerImage) -> Images:
    """Blurs images with a Gaussian of `sigma` pixels; around the outline is one mirror image.

    Each axis is multiplied by a dense matrix, so that sigma may be traced and every image may have
    its own.

    >>> images = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(1.0)
    >>> blurred = gaussian_blur(images, sigma=0.5)[0, :, :, 0]
    >>> [round(value.item(), 2) for value in (blurred[2, 2], blurred[2, 3], blurred.sum())]
    [0.62, 0.08, 1.0]
    """
    _, h, w, _ = images.shape
    sigma = jnp.asarray(sigma, jnp.float32).reshape(-1)
    sigma = jnp.broadcast_to(sigma, (len(images),))
    down, across = (_blur_matrix(sigma, size).astype(images.dtype) for size in (h, w))
    images = jnp.einsum("nij,njwc->niwc", down, images, precision="highest")
    return jnp.einsum("nij,nhjc->nhic", across, images, precision="highest")


def _blur_matrix(sigma: Float[Array, " n"], size: int) -> Float[Array, "n {size} {size}"]:
    """Returns how much each pixel of a line takes from each, one mirror image on either side."""
    at = jnp.arange(size, dtype=jnp.float32)
    to, origin = at[:, None], at[None, :]
    distances = jnp.stack([to - origin, to + origin + 1, 2 * size - 1 - to - origin])
    spread = jnp.maximum(sigma, 0.01)[:, None, None, None]  # at 0.01 all neighbours round to zero
    weights = jnp.exp(-((distances[None] / spread) ** 2) / 2).sum(axis=1)
    return weights / weights.sum(axis=-1, keepdims=True)


def random_blur(key: PRNGKey, images: Images, *, strength: Strength) -> Images:
    """Blurs each image with a Gaussian whose sigma is from 0 to `strength` pixels.

    >>> random_blur(jax.random.key(0), jnp.ones((2, 8, 8, 3)), strength=2.0).shape
    (2, 8, 8, 3)
    """
    return gaussian_blur(images, sigma=strength * jax.random.uniform(key, (len(images),)))


def smooth(images: Images) -> Images:
    """Returns the mean of each 3×3 block, the centre counting five times; the outline stays.

    Pillow's SMOOTH filter, which its sharpness is measured from.

    >>> images = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(1.0)
    >>> round(smooth(images)[0, 1, 1, 0].item(), 3)  # 5 / 13
    0.385
    """
    _, h, w, _ = images.shape
    rows = images[:, : h - 2] + images[:, 1 : h - 1] + images[:, 2:]
    block = rows[:, :, : w - 2] + rows[:, :, 1 : w - 1] + rows[:, :, 2:]
    centre = images[:, 1 : h - 1, 1 : w - 1]
    return images.at[:, 1 : h - 1, 1 : w - 1].set((block + 4 * centre) / 13)


def adjust_sharpness(images: Images, *, factor: PerImage) -> Images:
    """Multiplies the difference to the smoothed image; 0 leaves that alone.

    >>> images = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(0.5)
    >>> [round(adjust_sharpness(images, factor=f)[0, 1, 1, 0].item(), 2) for f in (0.0, 1.0, 2.0)]
    [0.19, 0.5, 0.81]
    """
    return away_from(images, smooth(images), per_image(factor, images))


def random_noise(key: PRNGKey, images: Images, *, strength: Strength) -> Images:
    """Adds to each value a normal number of standard deviation `strength`; cut off at 0 and 1.

    >>> noisy = random_noise(jax.random.key(0), jnp.full((4, 16, 16, 3), 0.5), strength=0.1)
    >>> noisy.shape, round(noisy.std().item(), 1)
    ((4, 16, 16, 3), 0.1)
    """
    noise = jax.random.normal(key, images.shape, images.dtype)
    return jnp.clip(images + per_image(strength, images) * noise, 0, 1)
