import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import layers
from tests.layers.checks import random

SHAPE = (3, 3, 48, 96)
FAN_IN, FAN_OUT = 9 * 48, 9 * 96
VARIANCES = {
    "glorot": 2 / (FAN_IN + FAN_OUT),
    "he": 2 / FAN_IN,
    "lecun": 1 / FAN_IN,
}
CUT = 0.8796256610342398  # deviation of the standard normal cut off at two


@functools.cache
def _sample(name, shape=SHAPE, seed=3):
    return np.asarray(layers.initializer(name)(jax.random.key(seed), shape, jnp.float32))


@pytest.mark.parametrize("family", VARIANCES)
def test_scaled_initializers_have_the_variance_of_their_fans(family):
    for kind in ("uniform", "normal"):
        weights = _sample(f"{family}_{kind}")
        np.testing.assert_allclose(weights.var(), VARIANCES[family], rtol=0.03)
        assert abs(weights.mean()) < 4 * np.sqrt(VARIANCES[family] / weights.size)


@pytest.mark.parametrize("family", VARIANCES)
def test_scaled_initializers_keep_within_their_bounds(family):
    limit = np.sqrt(3 * VARIANCES[family])  # for glorot, sqrt(6 / (fan_in + fan_out))
    assert 0.999 * limit < np.abs(_sample(f"{family}_uniform")).max() <= limit * (1 + 1e-6)
    limit = 2 * np.sqrt(VARIANCES[family]) / CUT
    assert 0.99 * limit < np.abs(_sample(f"{family}_normal")).max() <= limit * (1 + 1e-6)


@pytest.mark.parametrize(
    "shape, fan_in", [((400, 100), 400), ((7, 20, 300), 140), ((2, 3, 4, 5, 300), 120)]
)
def test_the_fan_in_is_the_window_times_the_channels(shape, fan_in):
    np.testing.assert_allclose(_sample("he_normal", shape).var(), 2 / fan_in, rtol=0.05)


@pytest.mark.parametrize(
    "name, mean, deviation, limit",
    [
        ("zeros", 0, 0, 0),
        ("ones", 1, 0, 1),
        ("normal", 0, 0.01, np.inf),
        ("truncated_normal", 0, 0.01 * CUT, 0.02),
        ("uniform", 0, 0.1 / np.sqrt(12), 0.05),
    ],
)
def test_plain_initializers(name, mean, deviation, limit):
    weights = _sample(name)
    np.testing.assert_allclose(weights.mean(), mean, atol=4 * deviation / np.sqrt(weights.size))
    np.testing.assert_allclose(weights.std(), deviation, rtol=0.02, atol=1e-9)
    assert np.abs(weights).max() <= limit * (1 + 1e-6)


def test_orthogonal_columns_are_orthonormal():
    columns = _sample("orthogonal", (3, 3, 8, 16)).reshape(-1, 16)
    np.testing.assert_allclose(columns.T @ columns, np.eye(16), atol=1e-5)
    rows = _sample("orthogonal", (1, 1, 8, 16)).reshape(-1, 16)
    np.testing.assert_allclose(rows @ rows.T, np.eye(8), atol=1e-5)


def test_delta_orthogonal_is_orthogonal_in_the_middle_and_zero_around():
    weights = _sample("delta_orthogonal", (3, 3, 8, 16))
    np.testing.assert_allclose(weights[1, 1] @ weights[1, 1].T, np.eye(8), atol=1e-5)
    assert np.count_nonzero(weights) == np.count_nonzero(weights[1, 1])


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (3, 3, 16, 8), (1, 3, 5, 5)])
def test_dirac_passes_channels_on_and_draws_the_rest(shape):
    *_, channels, features = shape
    kernel = _sample("dirac", shape)
    images = random(2, 6, 6, channels)
    y = np.asarray(layers.conv2d(jnp.asarray(images), jnp.asarray(kernel)))
    copied = min(channels, features)
    np.testing.assert_allclose(y[..., :copied], images[..., :copied], atol=1e-6)
    drawn, bound = kernel[..., copied:], 1 / np.sqrt(np.prod(shape[:-1]))
    if drawn.size:
        assert 0.9 * bound < np.abs(drawn).max() <= bound
        np.testing.assert_allclose(drawn.var(), bound**2 / 3, rtol=0.1)


@pytest.mark.parametrize("name", layers.INITIALIZERS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_initializers_take_key_shape_and_dtype(name, dtype):
    make = lambda key: layers.INITIALIZERS[name](key, (3, 3, 4, 8), dtype)
    weights = jax.eval_shape(make, jax.random.key(0))
    assert weights.shape == (3, 3, 4, 8)
    assert weights.dtype == dtype


@pytest.mark.parametrize("name", layers.INITIALIZERS)
def test_the_key_decides(name):
    shape = (3, 3, 8, 16) if "orthogonal" in name else SHAPE
    same = (_sample(name, shape, seed=3) == _sample(name, shape, seed=4)).all()
    assert same == (name in ("zeros", "ones"))


@pytest.mark.parametrize("name", ["orthogonal", "delta_orthogonal"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_orthogonal_weights_exist_in_half_precision(name, dtype):
    weights = layers.initializer(name)(jax.random.key(3), (3, 3, 8, 16), dtype)
    expected = _sample(name, (3, 3, 8, 16))
    np.testing.assert_array_equal(weights, expected.astype(dtype))


@pytest.mark.parametrize("name", ["he_uniform", "orthogonal"])
def test_a_population_is_initialised_by_vmap(name):
    keys = jax.random.split(jax.random.key(0), 2)
    make = lambda key: layers.initializer(name)(key, (3, 3, 8, 16), jnp.float32)
    for member, key in zip(jax.vmap(make)(keys), keys, strict=True):
        np.testing.assert_allclose(member, make(key), rtol=1e-4, atol=1e-6)


def test_an_unknown_name_gets_the_nearest_and_all():
    with pytest.raises(
        ValueError, match=r"did you mean 'he_normal'.*Known: delta_orthogonal, dirac, "
    ):
        layers.initializer("he_norml")
    with pytest.raises(ValueError, match=r"unknown initializer 'xyz'\. Known: "):
        layers.initializer("xyz")
