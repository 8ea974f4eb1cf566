import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.analysis.features import activation
from cnn_jax.analysis.receptive_field import Box
from cnn_jax.analysis.top_patches import cut, top_patches
from tests.analysis.small import LISTED, LISTED_VARIABLES, MODEL, SHAPE, VARIABLES, prepare

IMAGES = np.random.default_rng(4).uniform(size=(11, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("layer", ["conv1", "logits"])
def test_the_largest_values_are_found_over_all_batches(layer):
    batches = (jnp.asarray(IMAGES[at : at + 4]) for at in (0, 4, 8))
    found = top_patches(MODEL, VARIABLES, batches, layer=layer, count=3, prepare=prepare)
    images = jnp.asarray(IMAGES)
    maps = np.asarray(activation(MODEL, VARIABLES, images, layer=layer, prepare=prepare))
    maps = maps.reshape(11, *(maps.shape[1:3] if maps.ndim == 4 else (1, 1)), -1)
    for channel in range(maps.shape[-1]):
        peaks = maps[..., channel].max((1, 2))
        order = np.argsort(-peaks)[:3]
        np.testing.assert_array_equal(found.images[channel], order)
        np.testing.assert_allclose(found.values[channel], peaks[order], rtol=1e-4)
        for image, (row, column) in zip(order, found.positions[channel], strict=True):
            assert maps[image, row, column, channel] == pytest.approx(peaks[image], rel=1e-4)


def test_no_more_than_there_are_and_none_of_nothing():
    found = top_patches(MODEL, VARIABLES, [jnp.asarray(IMAGES[:2])], layer="conv2", count=9)
    assert found.values.shape == (6, 2)
    with pytest.raises(ValueError, match="no images"):
        top_patches(MODEL, VARIABLES, [], layer="conv2")


def test_a_model_may_have_lists_among_its_options():
    found = top_patches(LISTED, LISTED_VARIABLES, [jnp.asarray(IMAGES)], layer="conv1", count=2)
    assert found.values.shape == (4, 2)


def test_a_patch_is_filled_where_it_reaches_beyond_the_image():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    np.testing.assert_array_equal(cut(image, Box(1, 1, 3, 3))[..., 0], [[5, 6], [9, 10]])
    patch = cut(image, Box(-1, 3, 2, 6), fill=99)[..., 0]
    np.testing.assert_array_equal(patch, [[99, 99, 99], [3, 99, 99], [7, 99, 99]])
