"""Mirror images and shifted crops: what moves pixels as a whole, without resampling."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnn_jax.data.augment.draws import Images, PRNGKey, Strength, chosen
from cnn_jax.errors import unknown

_PAD_MODE = {"zero": "constant", "edge": "edge", "reflect": "reflect"}


def random_flip(key: PRNGKey, images: Images, *, probability: Strength = 0.5) -> Images:
    """Mirrors each image left and right with the given probability.

    Source: Krizhevsky, Sutskever and Hinton 2012, section 4.1.

    >>> images = jnp.array([0.0, 0.5, 1.0]).reshape(1, 1, 3, 1)
    >>> random_flip(jax.random.key(0), images, probability=1.0).ravel().tolist()
    [1.0, 0.5, 0.0]
    """
    return jnp.where(chosen(key, len(images), probability), images[:, :, ::-1], images)


def random_flip_vertical(key: PRNGKey, images: Images, *, probability: Strength = 0.5) -> Images:
    """Turns each image upside down, as a mirror does, with the given probability.

    >>> images = jnp.array([0.0, 0.5, 1.0]).reshape(1, 3, 1, 1)
    >>> random_flip_vertical(jax.random.key(0), images, probability=1.0).ravel().tolist()
    [1.0, 0.5, 0.0]
    """
    return jnp.where(chosen(key, len(images), probability), images[:, ::-1], images)


def alternating_flip(images: Images, index: Int[Array, " n"], epoch: Int[Array, " n"]) -> Images:
    """Mirrors every example left and right in every other epoch (arXiv 2404.00498, section 3.6).

    `index` is an example's number in its dataset; a coin that depends on it alone says whether the
    example starts mirrored. Two epochs in a row thus show each example both ways.

    >>> images = jnp.array([0.0, 0.5, 1.0]).reshape(1, 1, 3, 1)
    >>> one, next_ = (alternating_flip(images, jnp.array([7]), jnp.array([e])) for e in (0, 1))
    >>> bool((next_ == one[:, :, ::-1]).all())
    True
    """
    flip = _coins(index) ^ (epoch % 2 == 1)
    return jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)


def _coins(index: Int[Array, " n"]) -> Bool[Array, " n"]:
    """Returns a coin for each number, whatever generator jax is set to."""
    key = jax.random.key(0, impl="threefry2x32")
    return jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(key, i)))(index)


def with_border(images: Images, width: int, border: str) -> Float[Array, "n larger_h larger_w c"]:
    """Returns images with a border of so many pixels on all sides.

    Raises:
      InputError: the border is none of zero, edge, reflect.

    >>> with_border(jnp.ones((1, 2, 2, 1)), 1, "zero").sum().item()
    4.0
    """
    check_border(border)
    pad = [(0, 0), (width, width), (width, width), (0, 0)]
    return jnp.pad(images, pad, mode=_PAD_MODE[border])


def check_border(border: str) -> None:
    """Raises InputError for a border that is none of zero, edge, reflect."""
    if border not in _PAD_MODE:
        raise unknown("border", border, _PAD_MODE)


def random_crop(key: PRNGKey, images: Images, *, padding: int, border: str = "zero") -> Images:
    """Moves each image by up to `padding` whole pixels along both axes (pad, then crop).

    `border` says what the image leaves behind: "zero", "edge" or "reflect" (about the edge pixel).

    Sources: Krizhevsky, Sutskever and Hinton 2012, section 4.1, from larger images; with padding,
    for CIFAR-10, He, Zhang, Ren and Sun 2015, section 4.2 (arXiv 1512.03385).

    >>> moved = random_crop(jax.random.key(0), jnp.ones((4, 32, 32, 3)), padding=4)
    >>> moved.shape, bool((moved[:, 4:-4, 4:-4] == 1).all())
    ((4, 32, 32, 3), True)
    """
    _, h, w, c = images.shape
    padded = with_border(images, padding, border)
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * padding + 1)
    crop = partial(jax.lax.dynamic_slice, slice_sizes=(h, w, c))
    # Measured on a CPU: as fast as any gather, and 8 times as fast as products with one-hot rows.
    return jax.vmap(lambda image, corner: crop(image, (corner[0], corner[1], 0)))(padded, corners)
