import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import layers

KEY = jax.random.key(7)
X = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (32, 4, 4, 32)).astype(np.float32))

# the axes along which the mask varies; the others are dropped together
LAYERS = {
    layers.dropout: (0, 1, 2, 3),
    layers.spatial_dropout: (0, 3),
    layers.drop_path: (0,),
}
every_layer = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)


@every_layer
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_what_is_kept_is_scaled_and_the_rest_is_zero(layer, rate):
    x = jnp.tile(X, (8, 1, 1, 1))
    y = jax.jit(lambda key, x: layer(key, x, rate=rate))(KEY, x)
    kept = np.asarray(y != 0)
    np.testing.assert_allclose(y, np.where(kept, x / (1 - rate), 0), rtol=1e-6)
    together = tuple(a for a in range(4) if a not in LAYERS[layer])
    np.testing.assert_array_equal(kept.all(together), kept.any(together))
    dropped = 1 - kept.all(together)
    deviation = np.sqrt(rate * (1 - rate) / dropped.size)
    assert abs(dropped.mean() - rate) < 4 * deviation


@every_layer
def test_the_gradient_is_the_mask(layer):
    y, pullback = jax.vjp(lambda x: layer(KEY, x, rate=0.4), X)
    np.testing.assert_allclose(pullback(X)[0], y, rtol=1e-6)  # the layer is linear and diagonal


@every_layer
def test_no_rate_is_the_identity_whether_known_or_traced(layer):
    np.testing.assert_array_equal(layer(KEY, X, rate=0), X)
    np.testing.assert_array_equal(layer(KEY, X, rate=0.0), X)
    traced = jax.jit(lambda rate: layer(KEY, X, rate=rate))(jnp.zeros(()))
    np.testing.assert_array_equal(traced, X)


@every_layer
def test_a_population_may_have_one_rate_and_key_each(layer):
    keys, rates = jax.random.split(KEY, 3), [0.0, 0.3, 0.8]
    run = jax.vmap(lambda key, rate: layer(key, X, rate=rate))
    for member, key, rate in zip(run(keys, jnp.asarray(rates)), keys, rates, strict=True):
        np.testing.assert_allclose(member, layer(key, X, rate=rate), rtol=1e-6)


@every_layer
def test_the_key_decides(layer):
    first, again = (layer(jax.random.key(1), X, rate=0.5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != layer(jax.random.key(2), X, rate=0.5)).any()
    old_style = layer(jax.random.PRNGKey(1), X, rate=0.5)
    np.testing.assert_array_equal(first, old_style)


@every_layer
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("traced", [False, True])
def test_the_dtype_stays(layer, dtype, traced):
    rate = jnp.asarray(0.5) if traced else 0.5
    y = layer(KEY, X.astype(dtype), rate=rate)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, jnp.where(y != 0, 2 * X.astype(dtype), 0))


@every_layer
@pytest.mark.parametrize("rate", [1.0, -0.1, 1, float("nan")])
def test_a_rate_outside_zero_to_one_is_refused(layer, rate):
    with pytest.raises(ValueError, match="at least 0 and less than 1"):
        layer(KEY, X, rate=rate)
