"""Max pooling by taps against XLA's reduce_window: values, both modes of derivative, and ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from cnn_jax import layers
from tests.layers.checks import distinct, lowered


def stock(x, windows, strides, pairs):
    options = (1, *windows, 1), (1, *strides, 1), ((0, 0), *pairs, (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, *options)


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_random_geometry_is_reduce_window(data):
    rank = data.draw(st.integers(1, 2))
    draw = lambda low, high: data.draw(st.integers(low, high))
    windows = tuple(draw(1, 3) for _ in range(rank))
    strides = windows if draw(0, 1) else tuple(draw(1, 3) for _ in range(rank))
    pairs = [(draw(0, f - 1), draw(0, f - 1)) for f in windows]
    sizes = [f + draw(0, 4) for f in windows]
    dtype = data.draw(st.sampled_from(["float32", "bfloat16", "float16"]))
    tied = draw(0, 1)  # few values, so that most windows hold a tie
    x = jnp.asarray(distinct(2, *sizes, 2) // (3 if tied else 0.1)).astype(dtype)

    @jax.jit
    def both(x):
        weights = jnp.arange(1.0, 9.0).astype(dtype)
        results = []
        for pool in (
            lambda x: layers.max_pool(x, window=windows, stride=strides, padding=pairs),
            lambda x: stock(x, windows, strides, pairs),
        ):
            y, pull = jax.vjp(pool, x)
            cotangent = jnp.resize(weights, y.shape)  # exact in half precision, sums too
            results.append((y, *pull(cotangent)))
        return results

    ours, expected = both(x)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_a_window_may_have_more_taps_than_a_byte_can_count():
    x = jnp.asarray(distinct(2, 260, 3))
    found = jax.jit(jax.grad(lambda x: layers.max_pool(x, window=260).sum()))(x)
    np.testing.assert_array_equal(found, x == x.max(1, keepdims=True))


def test_padding_with_infinities_is_no_result_of_its_own():
    with jax.debug_infs(True):
        assert layers.max_pool(jnp.ones((1, 4, 4, 1)), window=2).shape == (1, 2, 2, 1)


@pytest.mark.parametrize("window, stride", [(2, 2), (3, 2), (9, 9)])
def test_forward_mode_is_the_transpose_of_reverse_mode(window, stride):
    x, move = (jnp.asarray(distinct(2, 10, 9, 3, seed=seed)) for seed in (0, 1))
    pool = lambda x: layers.max_pool(x, window=window, stride=stride)

    @jax.jit
    def both(x, move):
        y, pull = jax.vjp(pool, x)
        return (y * jax.jvp(pool, (x,), (move,))[1]).sum(), (pull(y)[0] * move).sum()

    forward, reverse = both(x, move)
    np.testing.assert_allclose(forward, reverse, rtol=1e-5)


@pytest.mark.parametrize("stride", [2, 1])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_nan_is_not_lost(stride, place):
    x = jnp.arange(4.0).at[place].set(jnp.nan).reshape(1, 2, 2, 1)
    pool = lambda x: layers.max_pool(x, window=2, stride=stride).sum()
    value, gradient = jax.value_and_grad(pool)(x)
    assert jnp.isnan(value)
    np.testing.assert_array_equal(gradient.ravel(), np.eye(4)[place])


@pytest.mark.parametrize(
    "windows, strides", [((9, 8), (9, 8)), ((8, 9), (3, 2)), ((1, 70), (1, 5))]
)
def test_large_windows_are_reduce_window(windows, strides):
    pairs = [(f // 2, (f - 1) // 2) for f in windows]
    x = jnp.asarray(distinct(2, 20, 90, 2) // 9)  # most windows hold a tie

    @jax.jit
    def both(x):
        results = []
        for pool in (
            lambda x: layers.max_pool(x, window=windows, stride=strides, padding=pairs),
            lambda x: stock(x, windows, strides, pairs),
        ):
            y, pull = jax.vjp(pool, x)
            results.append((y, *pull(jnp.resize(jnp.arange(1.0, 9.0), y.shape))))
        return results

    for a, b in zip(*both(x), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("window, stride", [(2, 2), (3, 2), (9, 9), (9, 4), ((1, 70), 1)])
def test_the_gradient_scatters_nothing(window, stride):
    pool = lambda x: layers.max_pool(x, window=window, stride=stride).sum()
    program = jax.jit(jax.grad(pool)).lower(jnp.zeros((1, 9, 80, 2))).as_text()
    assert "select_and_scatter" not in program
    assert "stablehlo.scatter" not in program


@pytest.mark.parametrize(
    ("platform", "stride", "loop", "barrier"),
    [
        ("cpu", 2, True, False),
        ("cpu", 1, False, False),
        ("cuda", 2, False, False),
        ("cuda", 1, False, True),
        ("tpu", 2, False, False),
    ],
)
def test_what_each_platform_computes_once_for_the_gradient(platform, stride, loop, barrier):
    def gradient(x):
        return jax.grad(lambda x: (layers.max_pool(x, window=2, stride=stride) ** 2).sum())(x)

    program = lowered(gradient, jnp.ones((4, 6, 6, 3)), platform=platform)
    found = [name in program for name in ("stablehlo.while", "optimization_barrier")]
    assert found == [loop, barrier]
