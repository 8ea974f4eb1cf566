"""The views of test-time augmentation against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.data.augment.views import view_weights, views_of

IMAGES = np.random.default_rng(0).random((2, 4, 5, 3)).astype(np.float32)


def moved(image, dy, dx):
    """Returns the image moved down by dy and right by dx, zeros left behind."""
    result = np.zeros_like(image)
    h, w = image.shape[:2]
    for y in range(h):
        for x in range(w):
            if 0 <= y - dy < h and 0 <= x - dx < w:
                result[y, x] = image[y - dy, x - dx]
    return result


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_the_views_of_each_image(mirror, shift):
    views = jax.jit(views_of, static_argnames=("mirror", "shift"))(
        jnp.asarray(IMAGES), mirror=mirror, shift=shift
    )
    moves = (0, shift, -shift) if shift else (0,)
    for image, found in zip(IMAGES, views, strict=True):
        expected = [moved(image, by, by) for by in moves]
        if mirror:
            expected = [each for view in expected for each in (view, view[:, ::-1])]
        np.testing.assert_array_equal(found, expected)
    weights = view_weights(mirror=mirror, shift=shift)
    assert len(weights) == views.shape[1] and sum(weights) == 1


def test_a_border_is_filled_as_in_training():
    views = views_of(jnp.asarray(IMAGES), mirror=False, shift=1, border="reflect")
    padded = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(views[:, 1], padded[:, :4, :5])
    np.testing.assert_array_equal(views[:, 2], padded[:, 2:, 2:])
