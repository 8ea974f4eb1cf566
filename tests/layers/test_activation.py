import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import layers
from tests.layers.checks import check_layer, random

_erf = np.vectorize(math.erf)
_sigmoid = lambda x: 1 / (1 + np.exp(-x))
_softplus = lambda x: np.log1p(np.exp(x))
_selu_alpha, _selu_scale = 1.6732632423543772, 1.0507009873554805

FORMULAS = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: _selu_scale * np.where(x > 0, x, _selu_alpha * np.expm1(x)),
    "gelu": lambda x: x * (1 + _erf(x / np.sqrt(2))) / 2,
    "silu": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "tanh": np.tanh,
    "scaled_tanh": lambda x: 1.7159 * np.tanh(2 * x / 3),
    "sigmoid": _sigmoid,
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "softplus": _softplus,
}
POINTS = np.array([[-7, -4, -2.5, -1, -0.3], [0.2, 1, 2.5, 4, 7]], np.float32)  # between the kinks


def test_every_name_has_a_formula():
    assert set(layers.ACTIVATIONS) == set(FORMULAS)
    assert all(layers.ACTIVATIONS[name] is getattr(layers, name) for name in FORMULAS)


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_is_its_formula(name):
    expected = FORMULAS[name](POINTS.astype(np.float64))
    check_layer(layers.ACTIVATIONS[name], (POINTS,), expected)


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_is_sound_at_the_extremes(name):
    function = layers.ACTIVATIONS[name]
    x = np.array([-100.0, 0.0, 100.0], np.float32)

    @jax.jit
    def run(x):
        gradient = jax.grad(lambda x: function(x).sum())(x)
        return function(x), gradient, function(x.astype(jnp.bfloat16))

    y, gradient, half = run(x)
    np.testing.assert_allclose(y, FORMULAS[name](x.astype(np.float64)), atol=1e-6)
    assert np.isfinite(gradient).all()
    assert half.dtype == jnp.bfloat16


def test_slopes_at_zero_are_those_of_the_negative_side():
    assert jax.grad(layers.relu)(jnp.zeros(())) == 0
    assert jax.grad(layers.leaky_relu)(jnp.zeros(())) == np.float32(0.01)


@pytest.mark.parametrize(
    "function, options, expected",
    [
        (layers.leaky_relu, {"slope": 0.2}, lambda x: np.where(x > 0, x, 0.2 * x)),
        (layers.elu, {"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
        (
            layers.gelu,
            {"approximate": True},
            lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        ),
    ],
)
def test_options_change_the_formula(function, options, expected):
    y = function(jnp.asarray(POINTS), **options)
    np.testing.assert_allclose(y, expected(POINTS.astype(np.float64)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_is_normalised_exponentials(axis):
    x = random(3, 4)
    exponentials = np.exp(x.astype(np.float64))
    expected = exponentials / exponentials.sum(axis, keepdims=True)
    check_layer(lambda x: layers.softmax(x, axis=axis), (x,), expected)
    check_layer(lambda x: layers.log_softmax(x, axis=axis), (x,), np.log(expected))


def test_softmax_of_large_numbers_does_not_overflow():
    x = jnp.array([1000.0, 1000.0, -1000.0])
    np.testing.assert_allclose(layers.softmax(x), [0.5, 0.5, 0])
    np.testing.assert_allclose(layers.log_softmax(x), [-np.log(2), -np.log(2), -2000 - np.log(2)])
