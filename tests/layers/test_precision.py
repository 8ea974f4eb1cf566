import inspect

import jax.numpy as jnp
import pytest

from cnn_jax import layers
from cnn_jax.layers.precision import widen

KERNEL = jnp.full((3, 3, 2, 4), 0.3)
OF_IMAGES = {
    "conv": lambda f, x: f(x, KERNEL),
    "conv_transpose": lambda f, x: f(x, KERNEL),
    "dense": lambda f, x: f(x, KERNEL[0, 0]),
    "max_pool": lambda f, x: f(x, window=2),
    "avg_pool": lambda f, x: f(x, window=2),
}
MESSAGE = "floating-point numbers; it is of type "


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
@pytest.mark.parametrize("name", OF_IMAGES)
def test_images_of_integers_are_refused_without_type_checks(name, dtype):
    """Kernels are cast to the input's type: there the smaller weights would be zeros."""
    unchecked = inspect.unwrap(getattr(layers, name))
    with pytest.raises(ValueError, match=MESSAGE + dtype):
        OF_IMAGES[name](unchecked, jnp.ones((1, 4, 4, 2), dtype))


def test_sums_over_integers_are_refused_without_type_checks():
    with pytest.raises(ValueError, match=MESSAGE + "uint8"):
        inspect.unwrap(widen)(jnp.ones(3, jnp.uint8))
