"""Gaussian blur, sharpness and Gaussian noise."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn_jax.data.augment.color import away_from
from cnn_jax.data.augment.draws import Images, PerImage, PRNGKey, Strength, per_image


def gaussian_blur(images: Images, *, sigma: PerImage) -> Images:
    """Blurs images with a Gaussian of `sigma` pixels; images go on around their outline, mirrored.

    Each axis is multiplied by a dense matrix, so that sigma may be traced and every image may have
    its own.
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
    """Blurs each image with a Gaussian whose sigma is from 0 to `strength` pixels."""
    return gaussian_blur(images, sigma=strength * jax.random.uniform(key, (len(images),)))


def smooth(images: Images) -> Images:
    """Returns the mean of each 3×3 block, the centre counting five times; the outline stays.

    Pillow's SMOOTH filter, which its sharpness is measured from.
    """
    _, h, w, _ = images.shape
    rows = images[:, : h - 2] + images[:, 1 : h - 1] + images[:, 2:]
    block = rows[:, :, : w - 2] + rows[:, :, 1 : w - 1] + rows[:, :, 2:]
    centre = images[:, 1 : h - 1, 1 : w - 1]
    return images.at[:, 1 : h - 1, 1 : w - 1].set((block + 4 * centre) / 13)


def adjust_sharpness(images: Images, *, factor: PerImage) -> Images:
    """Multiplies the difference to the smoothed image; 0 leaves that alone."""
    return away_from(images, smooth(images), per_image(factor, images))


def random_noise(key: PRNGKey, images: Images, *, strength: Strength) -> Images:
    """Adds to each value a normal number of standard deviation `strength`; cut off at 0 and 1."""
    noise = jax.random.normal(key, images.shape, images.dtype)
    return jnp.clip(images + per_image(strength, images) * noise, 0, 1)
