"""What is checked of every change of images: its values, and that jit and vmap leave them right."""

import jax
import jax.numpy as jnp
import numpy as np


def pixels(*shape, seed=0):
    """Returns reproducible uint8 images."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def unit(images):
    """Returns uint8 images as float32 in [0, 1]."""
    return jnp.asarray(images.astype(np.float32) / np.float32(255))


def check_change(change, images, expected, *, atol=1e-5):
    """Checks change(images) == expected, under jit and, with another batch beside, under vmap."""

    @jax.jit
    def run(images):
        return change(images), jax.vmap(change)(jnp.stack([images, images[::-1]]))

    one, both = run(images)
    assert one.dtype == images.dtype
    np.testing.assert_allclose(one, expected, rtol=0, atol=atol)
    np.testing.assert_allclose(both[0], one, rtol=0, atol=1e-5)
    assert (both[1] != both[0]).any()
