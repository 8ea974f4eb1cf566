import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import correlate, sobel

from cnn_jax.analysis.image_kernels import KERNELS, apply_kernel, as_picture, sobel_magnitude

IMAGE = np.random.default_rng(0).random((1, 9, 11, 3), np.float32)


@pytest.mark.parametrize("name", KERNELS)
def test_every_channel_is_correlated_with_the_kernel(name):
    found = apply_kernel(jnp.asarray(IMAGE), KERNELS[name])
    for channel in range(3):
        expected = correlate(IMAGE[0, ..., channel], KERNELS[name], mode="mirror")
        np.testing.assert_allclose(found[0, ..., channel], expected, atol=1e-5)


def test_the_kernels_do_what_their_names_say():
    plain = jnp.full((1, 6, 6, 1), 0.25)
    for name, kernel in KERNELS.items():
        keeps = name not in ("edges", "sobel x", "sobel y")
        np.testing.assert_allclose(apply_kernel(plain, kernel), 0.25 * keeps, atol=1e-6)
    np.testing.assert_array_equal(apply_kernel(jnp.asarray(IMAGE), KERNELS["identity"]), IMAGE)
    grey = IMAGE[0, ..., 0]
    expected = np.hypot(sobel(grey, 0, mode="mirror"), sobel(grey, 1, mode="mirror"))
    found = sobel_magnitude(jnp.asarray(IMAGE[..., :1]))[0, ..., 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_in_a_picture_the_zero_of_an_edge_kernel_is_grey():
    plain = jnp.full((1, 6, 6, 1), 0.25)
    edges, blur = KERNELS["edges"], KERNELS["box blur"]
    np.testing.assert_allclose(as_picture(apply_kernel(plain, edges), edges), 0.5, atol=1e-6)
    np.testing.assert_allclose(as_picture(apply_kernel(plain, blur), blur), 0.25, atol=1e-6)
    assert as_picture(jnp.full((1, 2, 2, 1), 7.0), edges).max() == 1
