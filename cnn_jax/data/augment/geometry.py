"""Rotation, shift, zoom, shear and resized crop: affine maps that share one resampling pass.

A map is written as its inverse, the (3, 3) matrix that says where an output pixel (x, y, 1) comes
from, in pixels from the image's centre, x to the right and y down. `compose` joins several maps
into one, so that an image is resampled once however many there are.

`border` says what lies around an image: "zero" is black, "edge" repeats the outermost pixels,
"reflect" mirrors about them.
"""

from functools import reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cnn_jax.data.augment.draws import Images, PerImage, PRNGKey, Strength
from cnn_jax.data.augment.framing import check_border

Numbers = float | int | Float[Array, "*b"]
Matrices = Float[Array, "*b 3 3"]


def rotation(degrees: Numbers) -> Matrices:
    """Returns the inverse map of a rotation, counter-clockwise as one sees it.

    >>> rotation(90.0).round().astype(int).tolist()
    [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    """
    angle = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _matrix(cos, -sin, 0, sin, cos, 0)


def translation(x: Numbers, y: Numbers) -> Matrices:
    """Returns the inverse map of a move by (x, y) pixels, to the right and down.

    >>> translation(2.0, 3.0).astype(int).tolist()
    [[1, 0, -2], [0, 1, -3], [0, 0, 1]]
    """
    return _matrix(1, 0, -jnp.asarray(x, jnp.float32), 0, 1, -jnp.asarray(y, jnp.float32))


def scaling(x: Numbers, y: Numbers) -> Matrices:
    """Returns the inverse map of an enlargement by the factors x and y.

    >>> scaling(2.0, 4.0).tolist()
    [[0.5, 0.0, 0.0], [0.0, 0.25, 0.0], [0.0, 0.0, 1.0]]
    """
    return _matrix(1 / jnp.asarray(x, jnp.float32), 0, 0, 0, 1 / jnp.asarray(y, jnp.float32), 0)


def shearing(x: Numbers, y: Numbers) -> Matrices:
    """Returns the inverse map of a shear: x + (shear x) · y first, then y + (shear y) · x.

    >>> (2 * shearing(0.5, 0.0)).astype(int).tolist()
    [[2, -1, 0], [0, 2, 0], [0, 0, 2]]
    """
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    return _matrix(1 + x * y, -x, 0, -y, 1, 0)


def _matrix(*entries: Numbers) -> Matrices:
    rows = jnp.broadcast_arrays(*(jnp.asarray(e, jnp.float32) for e in (*entries, 0, 0, 1)))
    return jnp.stack(rows, axis=-1).reshape(*rows[0].shape, 3, 3)


def compose(*matrices: Float[Array, "n 3 3"]) -> Float[Array, "n 3 3"]:
    """Returns the inverse map of doing the given ones in their order.

    >>> compose(translation(2.0, 0.0)[None], translation(0.0, 3.0)[None])[0].astype(int).tolist()
    [[1, 0, -2], [0, 1, -3], [0, 0, 1]]
    """
    return reduce(lambda a, b: jnp.matmul(a, b, precision="highest"), matrices)


def warp(images: Images, matrices: Float[Array, "#n 3 3"], *, border: str = "zero") -> Images:
    """Returns each image moved by the map whose inverse is given, bilinear.

    An output pixel whose origin lies outside the image's outline, half a pixel around the outermost
    pixel centres, is black if `border` is "zero". Nothing is smoothed where an image shrinks.

    >>> images = jnp.array([0.25, 0.5, 0.75, 1.0]).reshape(1, 1, 4, 1)
    >>> warp(images, translation(1.0, 0.0)[None]).ravel().tolist()
    [0.0, 0.25, 0.5, 0.75]
    """
    check_border(border)
    _, h, w, _ = images.shape
    x = (jnp.arange(w, dtype=jnp.float32) - (w - 1) / 2).reshape(1, 1, 1, w)
    y = (jnp.arange(h, dtype=jnp.float32) - (h - 1) / 2).reshape(1, 1, h, 1)
    m = matrices[:, :2, :, None, None]
    xs, ys = jnp.moveaxis(m[:, :, 0] * x + m[:, :, 1] * y + m[:, :, 2], 1, 0)
    shape = (len(images), h, w)
    xs = jnp.broadcast_to(xs + (w - 1) / 2, shape)
    ys = jnp.broadcast_to(ys + (h - 1) / 2, shape)
    moved = _bilinear(images, xs, ys, border)
    if border == "zero":
        inside = (xs >= -0.5) & (xs < w - 0.5) & (ys >= -0.5) & (ys < h - 0.5)
        moved = jnp.where(inside[..., None], moved, jnp.zeros((), moved.dtype))
    return moved


def _bilinear(
    images: Images, xs: Float[Array, "n h w"], ys: Float[Array, "n h w"], border: str
) -> Images:
    """Returns the images at fractional positions, where 0 is the centre of the first pixel."""
    n, h, w, _ = images.shape
    left, top = jnp.floor(xs), jnp.floor(ys)
    toward_right, toward_bottom = (xs - left)[..., None], (ys - top)[..., None]
    columns = [_inside(left + i, w, border) for i in (0, 1)]
    which = jnp.arange(n)[:, None, None]
    rows = []
    for i in (0, 1):
        row = _inside(top + i, h, border)
        a, b = (images[which, row, column].astype(jnp.float32) for column in columns)
        rows.append(a + toward_right * (b - a))
    return (rows[0] + toward_bottom * (rows[1] - rows[0])).astype(images.dtype)


def _inside(position: Float[Array, "n h w"], size: int, border: str) -> Int[Array, "n h w"]:
    index = position.astype(jnp.int32)
    if border == "reflect" and size > 1:
        index = index % (2 * size - 2)
        return jnp.minimum(index, 2 * size - 2 - index)
    return jnp.clip(index, 0, size - 1)


def rotate(images: Images, *, degrees: PerImage, border: str = "zero") -> Images:
    """Turns images about their centre, counter-clockwise.

    >>> images = jnp.array([[0.0, 0.25], [0.5, 1.0]]).reshape(1, 2, 2, 1)
    >>> rotate(images, degrees=90.0)[0, :, :, 0].round(3).tolist()
    [[0.25, 1.0], [0.0, 0.5]]
    """
    return warp(images, _batched(rotation(degrees)), border=border)


def shift(images: Images, *, x: PerImage, y: PerImage, border: str = "zero") -> Images:
    """Moves images to the right by x widths and down by y heights.

    >>> images = jnp.array([0.25, 0.5, 0.75, 1.0]).reshape(1, 1, 4, 1)
    >>> shift(images, x=0.25, y=0.0, border="edge").ravel().tolist()
    [0.25, 0.25, 0.5, 0.75]
    """
    _, h, w, _ = images.shape
    return warp(images, _batched(translation(x * w, y * h)), border=border)


def zoom(images: Images, *, factor: PerImage, border: str = "zero") -> Images:
    """Enlarges images about their centre; a factor below one shrinks.

    >>> images = jnp.array([0.25, 0.5, 0.75, 1.0]).reshape(1, 1, 4, 1)
    >>> zoom(images, factor=2.0).ravel().tolist()
    [0.4375, 0.5625, 0.6875, 0.8125]
    """
    return warp(images, _batched(scaling(factor, factor)), border=border)


def shear(images: Images, *, x: PerImage, y: PerImage, border: str = "zero") -> Images:
    """Moves rows by x pixels for each pixel below the centre, then columns by y likewise.

    >>> images = jnp.zeros((1, 3, 3, 1)).at[0, :, 1].set(1.0)  # an upright line
    >>> shear(images, x=1.0, y=0.0)[0, :, :, 0].astype(int).tolist()
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    """
    return warp(images, _batched(shearing(x, y)), border=border)


def _batched(matrices: Matrices) -> Float[Array, "n 3 3"]:
    return matrices.reshape(-1, 3, 3)


def random_rotation(
    key: PRNGKey, images: Images, *, strength: Strength, border: str = "zero"
) -> Images:
    """Turns each image by an angle from ±strength degrees.

    >>> random_rotation(jax.random.key(0), jnp.ones((2, 8, 8, 3)), strength=15.0).shape
    (2, 8, 8, 3)
    """
    return random_affine(key, images, rotation=strength, border=border)


def random_shift(
    key: PRNGKey, images: Images, *, strength: Strength, border: str = "zero"
) -> Images:
    """Moves each image by up to `strength` of its width and of its height.

    >>> random_shift(jax.random.key(0), jnp.ones((2, 8, 8, 3)), strength=0.1).shape
    (2, 8, 8, 3)
    """
    return random_affine(key, images, shift=strength, border=border)


def random_zoom(
    key: PRNGKey, images: Images, *, strength: Strength, border: str = "zero"
) -> Images:
    """Enlarges each image by a factor from 1 ± strength; the strength is below one.

    >>> random_zoom(jax.random.key(0), jnp.ones((2, 8, 8, 3)), strength=0.2).shape
    (2, 8, 8, 3)
    """
    return random_affine(key, images, zoom=strength, border=border)


def random_shear(
    key: PRNGKey, images: Images, *, strength: Strength, border: str = "zero"
) -> Images:
    """Shears each image along both axes, each by a number from ±strength.

    >>> random_shear(jax.random.key(0), jnp.ones((2, 8, 8, 3)), strength=0.1).shape
    (2, 8, 8, 3)
    """
    return random_affine(key, images, shear=strength, border=border)


def random_resized_crop(
    key: PRNGKey, images: Images, *, area: Strength = 0.08, aspect: Strength = 4 / 3
) -> Images:
    """Enlarges a random part of each image to the whole (arXiv 1409.4842, section 6).

    The part's share of the image is drawn evenly from [area, 1]. Its aspect ratio, relative to the
    image's, is drawn from [1 / aspect, aspect], evenly on a logarithmic scale, or from as much of
    that as fits into the image. `area` is above zero; one is the whole image.

    >>> random_resized_crop(jax.random.key(0), jnp.ones((2, 8, 8, 3)), area=0.25).shape
    (2, 8, 8, 3)
    """
    return random_affine(key, images, area=area, aspect=aspect)


def random_affine(
    key: PRNGKey,
    images: Images,
    *,
    area: Strength = 1.0,
    aspect: Strength = 4 / 3,
    shear: Strength = 0.0,
    rotation: Strength = 0.0,
    zoom: Strength = 0.0,
    shift: Strength = 0.0,
    border: str = "zero",
) -> Images:
    """Does a resized crop, shear, rotation, zoom and shift, in this order, in one resampling pass.

    The strengths are those of random_resized_crop, random_shear and so on; each image draws for
    itself.

    >>> random_affine(jax.random.key(0), jnp.ones((2, 8, 8, 3)), rotation=15.0, shift=0.1).shape
    (2, 8, 8, 3)
    """
    n, h, w, _ = images.shape
    # One call compiles faster.
    draws = jax.random.uniform(key, (10, n), jnp.float32, minval=-1.0, maxval=1.0)
    factors = 1 + zoom * draws[7]
    matrices = compose(
        _part(draws[:4], (h, w), area, aspect),
        shearing(shear * draws[4], shear * draws[5]),
        _rotation(rotation * draws[6]),
        scaling(factors, factors),
        translation(w * shift * draws[8], h * shift * draws[9]),
    )
    return warp(images, matrices, border=border)


_rotation = rotation  # random_affine has an argument of that name


def _part(
    draws: Float[Array, "4 n"], shape: tuple[int, int], area: Strength, aspect: Strength
) -> Float[Array, "n 3 3"]:
    """Returns the inverse maps that enlarge parts of (H, W) images, given draws from [−1, 1]."""
    h, w = shape
    share = 1 - (1 - area) * (draws[0] + 1) / 2
    fits = jnp.minimum(jnp.log(jnp.asarray(aspect, jnp.float32)), -jnp.log(share))
    ratio = jnp.exp(fits * draws[1])
    width, height = jnp.sqrt(share * ratio), jnp.sqrt(share / ratio)
    x = (1 - width) * w / 2 * draws[2]
    y = (1 - height) * h / 2 * draws[3]
    return compose(translation(-x, -y), scaling(1 / width, 1 / height))
