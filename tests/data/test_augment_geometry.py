from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cnn_jax.data.augment import framing, geometry
from cnn_jax.errors import InputError
from tests.data.image_checks import check_change, pixels, unit

KEY = jax.random.key(3)
IMAGES = unit(pixels(4, 9, 12, 3))
_TURN = np.deg2rad(25)

# the change, and its map of (x, y) about the centre: a matrix and a move
CHANGES = {
    "rotate": (
        lambda x, border: geometry.rotate(x, degrees=25, border=border),
        [[np.cos(_TURN), np.sin(_TURN)], [-np.sin(_TURN), np.cos(_TURN)]],
        [0, 0],
    ),
    "shift": (
        lambda x, border: geometry.shift(x, x=0.3, y=-0.14, border=border),
        np.eye(2),
        [0.3 * 12, -0.14 * 9],
    ),
    "zoom": (
        lambda x, border: geometry.zoom(x, factor=0.7, border=border),
        0.7 * np.eye(2),
        [0, 0],
    ),
    "shear": (
        lambda x, border: geometry.shear(x, x=0.3, y=-0.2, border=border),
        np.array([[1, 0], [-0.2, 1]]) @ np.array([[1, 0.3], [0, 1]]),
        [0, 0],
    ),
}


def expected(image, matrix, move, border):
    """Returns an image (H, W) moved: by Pillow where the outside is black, else by SciPy."""
    h, w = image.shape
    inverse = np.linalg.inv(matrix)
    if border == "zero":
        outline = np.array([w, h]) / 2
        start = outline - inverse @ (outline + move)
        data = [*inverse[0], start[0], *inverse[1], start[1]]
        moved = Image.fromarray(image).transform((w, h), Image.AFFINE, data, Image.BILINEAR)
        return np.asarray(moved)
    inverse, centre = inverse[::-1, ::-1], (np.array([h, w]) - 1) / 2
    start = centre - inverse @ (centre + np.asarray(move)[::-1])
    mode = {"edge": "nearest", "reflect": "mirror"}[border]
    return ndimage.affine_transform(image, inverse, start, order=1, mode=mode)


@pytest.mark.parametrize("name", CHANGES)
def test_every_border_against_pillow_and_scipy(name):
    change, matrix, move = CHANGES[name]
    for border in ("zero", "edge", "reflect"):
        moved = np.stack(
            [
                [expected(np.asarray(image[..., c]), matrix, move, border) for c in range(3)]
                for image in IMAGES
            ]
        )
        changed = lambda x, border=border: change(x, border)
        check_change(changed, IMAGES, np.moveaxis(moved, 1, -1), atol=2e-5)


def test_a_rotation_turns_the_way_that_pillow_turns():
    image = Image.fromarray(np.asarray(IMAGES[0, ..., 0]))
    turned = jax.jit(geometry.rotate)(IMAGES[:1], degrees=jnp.asarray([40.0]))[0, ..., 0]
    np.testing.assert_allclose(turned, image.rotate(40, Image.BILINEAR), atol=1e-5)


def test_nothing_is_lost_where_nothing_moves():
    @jax.jit
    def run(images, nothing):
        known = [geometry.random_affine(KEY, images, border=b) for b in ("zero", "reflect")]
        traced = geometry.random_affine(
            KEY, images, shear=nothing, rotation=nothing, zoom=nothing, shift=nothing, border="edge"
        )
        return [*known, traced], geometry.random_affine(KEY, images.astype(jnp.bfloat16))

    moved, half = run(IMAGES, jnp.zeros(()))
    for images in moved:
        np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(half, IMAGES.astype(jnp.bfloat16))


def test_one_pixel_can_be_warped():
    pixel = jnp.full((1, 1, 1, 1), 0.5)
    rotate = jax.jit(partial(geometry.rotate, degrees=45), static_argnames="border")
    for border in ("edge", "reflect"):
        np.testing.assert_array_equal(rotate(pixel, border=border), pixel)


def test_maps_are_joined_in_the_order_in_which_they_are_given():
    first, second = geometry.rotation(jnp.asarray([30.0])), geometry.translation(2, 1)[None]
    joined = geometry.compose(first, second)[0]
    turn = np.deg2rad(30)
    rotated = [np.cos(turn) * 3 + np.sin(turn) * 4, -np.sin(turn) * 3 + np.cos(turn) * 4]
    moved = np.array([rotated[0] + 2, rotated[1] + 1, 1])
    np.testing.assert_allclose(joined @ moved, [3, 4, 1], atol=1e-5)


# Ramps tell where each pixel comes from, so that the map of each image can be read off its centre.
COUNT, SIZE = 2000, 9
RAMP = np.arange(SIZE) - SIZE // 2
RAMPS = jnp.broadcast_to(
    jnp.asarray(np.stack(np.meshgrid(RAMP, RAMP), axis=-1), jnp.float32), (COUNT, SIZE, SIZE, 2)
)


@pytest.fixture(scope="module")
def moved():
    """RAMPS after each random change, all compiled as one."""

    @jax.jit
    def run(key, x):
        return {
            "rotation": geometry.random_rotation(key, x, strength=30, border="edge"),
            "zoom": geometry.random_zoom(key, x, strength=0.4, border="edge"),
            "shift": geometry.random_shift(key, x, strength=0.25, border="edge"),
            "shear": geometry.random_shear(key, x, strength=0.3, border="edge"),
            "crop": geometry.random_resized_crop(key, x, area=0.2, aspect=1.5),
            "whole": geometry.random_resized_crop(key, x, area=1),
        }

    return run(KEY, RAMPS)


def inverse_maps(images):
    """Returns (matrix, move) of the inverse map of each image that came from RAMPS."""
    c = SIZE // 2
    centre = np.asarray(images[:, c, c])
    to_right = np.asarray(images[:, c, c + 1]) - centre
    downward = np.asarray(images[:, c + 1, c]) - centre
    return np.stack([to_right, downward], axis=-1), centre


def check_even(numbers, low, high):
    """Checks that numbers are drawn evenly from an interval, within four standard errors."""
    assert low - 1e-4 <= numbers.min() and numbers.max() <= high + 1e-4
    deviation = (high - low) / np.sqrt(12)
    assert abs(numbers.mean() - (low + high) / 2) < 4 * deviation / np.sqrt(numbers.size)
    assert abs(numbers.std() / deviation - 1) < 0.1


def test_angles_are_even(moved):
    matrix, _ = inverse_maps(moved["rotation"])
    check_even(np.rad2deg(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0])), -30, 30)


def test_factors_are_even(moved):
    matrix, _ = inverse_maps(moved["zoom"])
    check_even(1 / matrix[:, 0, 0], 0.6, 1.4)
    np.testing.assert_allclose(matrix[:, 0, 0], matrix[:, 1, 1], atol=1e-5)


def test_moves_and_shears_are_even_and_apart(moved):
    _, move = inverse_maps(moved["shift"])
    matrix, _ = inverse_maps(moved["shear"])
    for a, b, limit in ((*move.T, 0.25 * SIZE), (matrix[:, 0, 1], matrix[:, 1, 0], 0.3)):
        check_even(a, -limit, limit)
        check_even(b, -limit, limit)
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.08


def test_a_resized_crop_takes_a_part_that_lies_inside(moved):
    matrix, move = inverse_maps(moved["crop"])
    width, height = matrix[:, 0, 0], matrix[:, 1, 1]
    check_even(width * height, 0.2, 1)
    assert abs(np.log(width / height)).max() <= np.log(1.5) + 1e-4
    assert abs(np.log(width / height).mean()) < 0.02
    for share, centre in zip((width, height), move.T, strict=True):
        assert (abs(centre) <= (1 - share) * SIZE / 2 + 1e-4).all()
        assert abs(centre).max() > 0.2 * SIZE
    np.testing.assert_array_equal(moved["whole"], RAMPS)


@pytest.mark.parametrize("border", ["zero", "edge", "reflect"])
def test_a_shifted_crop_moves_by_whole_pixels_and_evenly(border):
    images = unit(pixels(300, 5, 6, 2))
    mode = {"zero": "constant", "edge": "edge", "reflect": "reflect"}[border]
    cropped = jax.jit(lambda x: framing.random_crop(KEY, x, padding=2, border=border))(images)
    seen = np.zeros((5, 5), int)
    for image, crop in zip(np.asarray(images), np.asarray(cropped), strict=True):
        padded = np.pad(image, [(2, 2), (2, 2), (0, 0)], mode=mode)
        windows = np.lib.stride_tricks.sliding_window_view(padded, image.shape)[:, :, 0]
        seen += (windows == crop).all(axis=(2, 3, 4))
    assert seen.sum() == 300
    assert seen.min() >= 2 and seen.max() <= 26  # 12 each, 3.4 more or less


@pytest.mark.parametrize(
    ("flip", "axis"), [(framing.random_flip, 2), (framing.random_flip_vertical, 1)]
)
def test_half_of_the_images_are_mirrored(flip, axis):
    images = np.asarray(unit(pixels(1000, 2, 3, 1)))
    mirrored = np.flip(images, axis)
    flipped = np.asarray(jax.jit(flip)(KEY, jnp.asarray(images)))
    was, is_not = ((flipped == which).all(axis=(1, 2, 3)) for which in (mirrored, images))
    assert (was | is_not).all()
    assert abs(was.mean() - 0.5) < 4 * 0.5 / np.sqrt(1000)
    np.testing.assert_array_equal(flip(KEY, jnp.asarray(images), probability=0), images)
    np.testing.assert_array_equal(flip(KEY, jnp.asarray(images), probability=1), mirrored)


def test_an_alternating_flip_shows_each_example_both_ways_in_two_epochs():
    images = unit(pixels(1000, 2, 3, 1))
    index = jnp.arange(1000, dtype=jnp.int32)
    run = jax.jit(framing.alternating_flip)
    epochs = [np.asarray(run(images, index, jnp.full(1000, e, jnp.int32))) for e in range(3)]
    np.testing.assert_array_equal(epochs[1], epochs[0][:, :, ::-1])
    np.testing.assert_array_equal(epochs[2], epochs[0])
    flipped = (epochs[0] == np.asarray(images)[:, :, ::-1]).all(axis=(1, 2, 3))
    assert abs(flipped.mean() - 0.5) < 4 * 0.5 / np.sqrt(1000)
    some = run(images[7:9], index[7:9], jnp.zeros(2, jnp.int32))
    np.testing.assert_array_equal(some, epochs[0][7:9])


def test_an_unknown_border_is_refused():
    images = jnp.ones((1, 4, 4, 1))
    for change in (
        lambda: geometry.rotate(images, degrees=9, border="edges"),
        lambda: framing.random_crop(jax.random.key(0), images, padding=1, border="edges"),
    ):
        with pytest.raises(InputError, match="unknown border 'edges'; did you mean 'edge'"):
            change()
