import numpy as np
import pytest

from cnn_jax.analysis import heat_maps
from cnn_jax.analysis.receptive_field import Box


def test_maps_without_negatives_run_from_dark_to_bright_on_one_scale():
    maps = np.zeros((2, 4, 4), np.float32)
    maps[0, 0, 0], maps[1, 0, 0] = 4, 2
    painted = heat_maps.colored(maps, brightest=100).astype(int).sum(-1)
    assert painted[0, 0, 0] > painted[1, 0, 0] > painted[0, 1, 1]
    alone = heat_maps.colored(maps, shared=False, brightest=100)
    np.testing.assert_array_equal(alone[0], alone[1])


def test_with_negatives_zero_is_white_and_the_signs_are_red_and_blue():
    maps = np.array([[[-1.0, 0.0, 1.0, np.nan]]], np.float32)
    blue, white, red, missing = heat_maps.colored(maps, brightest=100)[0, 0].astype(int)
    assert blue[2] > blue[0] and red[0] > red[2]
    assert white.min() > 240
    np.testing.assert_allclose(missing, 212, atol=1)


def test_an_overlay_glows_where_the_map_is_large_and_is_dim_elsewhere():
    images = np.full((1, 6, 6, 1), 0.5, np.float32)
    maps = np.zeros((1, 6, 6), np.float32)
    maps[0, 2, 3], maps[0, 0, 0] = 5, -5
    drawn = heat_maps.overlay(images, maps).astype(int)
    assert (drawn[0, 1, 1] == drawn[0, 0, 0]).all() and np.ptp(drawn[0, 1, 1]) == 0
    assert drawn[0, 2, 3].sum() > 2 * drawn[0, 1, 1].sum()
    flat = heat_maps.overlay(images, np.zeros_like(maps))
    np.testing.assert_array_equal(flat[0, 3, 3], drawn[0, 3, 3])


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_kernels_are_images_whose_zero_is_grey(channels):
    kernel = np.zeros((3, 3, channels, 5), np.float32)
    kernel[0, 0, :, 1] = -2
    tiles = heat_maps.kernels_as_images(kernel)
    assert tiles.shape == (5, 3, 3, 3)
    assert (tiles[0] == 128).all() and (tiles[1, 0, 0] == 0).all()


def test_a_box_is_drawn_on_the_enlarged_image_and_beyond_it():
    image = np.zeros((8, 8, 3), np.uint8)
    drawn = heat_maps.boxed(image, Box(2, 1, 5, 4), side=80)
    assert drawn.shape == (80, 80, 3)
    red = np.argwhere(drawn[..., 0] == 255)
    np.testing.assert_array_equal(red.min(0), [20, 10])
    np.testing.assert_array_equal(red.max(0), [49, 39])
    beyond = heat_maps.boxed(image, Box(-2, -90, 5, 4), side=120)
    assert beyond.shape == (100, 120, 3)  # two rows above, half of the image at the left
    assert (beyond[15, 60] == 211).all()


def test_numbers_are_written_into_a_kernels_cells():
    drawn = heat_maps.kernel_with_numbers(np.array([[0, 1 / 9], [-1, 2]], np.float32), side=80)
    assert drawn.shape == (80, 80, 3)
    for row, column in np.ndindex(2, 2):
        cell = drawn[40 * row : 40 * row + 40, 40 * column : 40 * column + 40]
        assert (cell.max(-1) < 100).sum() > 5
