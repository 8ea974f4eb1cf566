"""What all changes of images share: their types, and numbers drawn for each image of a batch.

Images are floats in [0, 1], NHWC. A strength is a Python number or a traced scalar, so that each
member of a population may have its own; a setting may also be one for each image, an (N,) array.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt32

Images = Float[Array, "n h w c"]
PRNGKey = Key[Array, ""] | UInt32[Array, "2"]
Strength = float | int | Float[Array, ""]
PerImage = float | int | Float[Array, ""] | Float[Array, " n"]


def symmetric(key: PRNGKey, count: int, limit: Strength) -> Float[Array, " {count}"]:
    """Returns `count` numbers drawn evenly from [−limit, limit].

    >>> bool((abs(symmetric(jax.random.key(0), 100, 0.5)) <= 0.5).all())
    True
    """
    return limit * jax.random.uniform(key, (count,), minval=-1.0, maxval=1.0)


def chosen(key: PRNGKey, count: int, probability: Strength) -> Bool[Array, "{count} 1 1 1"]:
    """Returns for each of `count` images whether it is chosen, ready to be used with jnp.where.

    >>> chosen(jax.random.key(0), 2, 1.0).tolist()
    [[[[True]]], [[[True]]]]
    """
    probability = jnp.asarray(probability, jnp.float32)
    return jax.random.bernoulli(key, probability, (count, 1, 1, 1))


def per_image(value: PerImage, images: Images) -> Float[Array, "#n 1 1 1"]:
    """Returns one number, or one for each image, in a shape and type that combine with images.

    >>> images = jnp.ones((2, 8, 8, 3))
    >>> per_image(0.5, images).shape, per_image(jnp.array([0.5, 1.0]), images).shape
    ((1, 1, 1, 1), (2, 1, 1, 1))
    """
    return jnp.asarray(value, images.dtype).reshape(-1, 1, 1, 1)
