"""What the tests of networks share: small forms of all, and weights without compiling a program."""

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.models.registry import build_model, variable_shapes

GRAY_28 = ("mnist_convnet", "lenet", "lenet5", "fashion_convnet")
CLASSES = 3


def small_shape(name):
    """Returns a small image shape that the network takes."""
    if name in GRAY_28:
        return (28, 28, 1)
    return (67, 67, 3) if name.startswith("alexnet") else (32, 32, 3)


def small_network(name, **options):
    """Returns the network with few channels, and few blocks where it may have them."""
    return build_model(name, CLASSES, **{"width": 1 / 16} | options)


def make_variables(model, image_shape, seed=0):
    """Returns random variables: He-normal kernels, small biases, statistics near (0, 1)."""
    rng = np.random.default_rng(seed)

    def make(path, leaf):
        noise = rng.normal(size=leaf.shape)
        if leaf.ndim > 1:
            return jnp.asarray(noise * np.sqrt(2 / np.prod(leaf.shape[:-1])), jnp.float32)
        centre = 1.0 if path[-1].key in ("scale", "var") else 0.0
        return jnp.asarray(centre + 0.1 * noise.clip(-3, 3), jnp.float32)

    return jax.tree_util.tree_map_with_path(make, variable_shapes(model, image_shape))


def make_images(shape, count=2, seed=1):
    """Returns random images."""
    pixels = np.random.default_rng(seed).normal(size=(count, *shape))
    return jnp.asarray(pixels, jnp.float32)
