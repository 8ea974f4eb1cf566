import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import layers

RNG = np.random.default_rng(0)
MIXING = RNG.normal(size=(3, 3))


def _images(n=40, size=9):
    """Returns images whose channels and neighbours depend on each other."""
    noise = RNG.normal(size=(n, size + 1, size + 1, 3)) @ MIXING
    return noise[:, 1:, 1:] + noise[:, :-1, 1:] + 0.5 * noise[:, 1:, :-1]


def _patches(images, window):
    """Returns all patches, flattened as a kernel is."""
    views = np.lib.stride_tricks.sliding_window_view(images, window, axis=(1, 2))
    return np.moveaxis(views, 3, -1).reshape(-1, np.prod(window) * images.shape[-1])


@pytest.mark.parametrize("window", [(2, 2), (1, 3)])
def test_outputs_are_uncorrelated_with_unit_variance_and_come_with_their_negatives(window):
    images = jnp.asarray(_images(), jnp.float32)
    kernel = layers.patch_whitening(images, window=window, epsilon=1e-9)
    features = np.prod(window) * 3
    assert kernel.shape == (*window, 3, 2 * features)
    y = np.asarray(layers.conv2d(images, kernel, padding="VALID")).reshape(-1, 2 * features)
    moment = y[:, :features].T @ y[:, :features] / len(y)
    np.testing.assert_allclose(moment, np.eye(features), atol=2e-3)
    np.testing.assert_allclose(y[:, features:], -y[:, :features], atol=1e-5)


def test_directions_are_the_eigenvectors_and_epsilon_adds_to_their_variance():
    images = _images()
    patches = _patches(images, (2, 2))
    variances = np.linalg.eigvalsh(patches.T @ patches / len(patches))
    kernel = np.asarray(
        layers.patch_whitening(jnp.asarray(images, jnp.float32), epsilon=0.3)
    ).reshape(12, 24)
    norms = np.linalg.norm(kernel[:, :12], axis=0)
    np.testing.assert_allclose(norms, 1 / np.sqrt(variances + 0.3), rtol=1e-4)
    outputs = patches @ kernel[:, :12]
    np.testing.assert_allclose((outputs**2).mean(axis=0), variances / (variances + 0.3), rtol=1e-3)


def test_it_is_the_same_under_jit_and_for_each_member_under_vmap():
    sets = jnp.asarray(np.stack([_images(10), _images(10)]), jnp.float32)
    project = lambda images: jnp.abs(layers.patch_whitening(images))  # signs are free
    mapped = jax.jit(jax.vmap(project))(sets)
    for images, kernel in zip(sets, mapped, strict=True):
        np.testing.assert_allclose(kernel, project(images), rtol=1e-3, atol=1e-4)


def test_channels_that_are_copies_are_whitened_however_large_the_images():
    gray = 128 * RNG.normal(size=(4, 8, 8, 1)).repeat(3, axis=-1)
    assert np.isfinite(layers.patch_whitening(jnp.asarray(gray, jnp.float32))).all()


def test_images_of_half_precision_are_whitened_in_float32():
    images = jnp.asarray(_images(4), jnp.bfloat16)
    kernel = layers.patch_whitening(images)
    wide = layers.patch_whitening(images.astype(jnp.float32))
    assert kernel.dtype == jnp.bfloat16
    np.testing.assert_array_equal(kernel, wide.astype(jnp.bfloat16))


def test_it_refuses_images_smaller_than_a_patch():
    with pytest.raises(ValueError, match="window 4 does not fit an input of 2"):
        layers.patch_whitening(jnp.zeros((2, 2, 5, 3)), window=(4, 4))
