"""The folded convolution against XLA's strided one, and where it is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from cnn_jax.layers import conv2d
from cnn_jax.layers.space_to_depth import fits, folded_conv2d
from tests.layers.checks import assert_close, derivatives, lowered, random


def stock(x, kernel, strides, pairs):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, strides, pairs, dimension_numbers=numbers)


def ways(strides, pairs):
    """Returns the folded convolution and XLA's, as functions of image and kernel."""
    options = {"strides": strides, "pairs": pairs}
    return [lambda *a: folded_conv2d(*a, **options), lambda *a: stock(*a, **options)]


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_any_geometry_is_xlas_convolution(data):
    draw = lambda low, high: data.draw(st.integers(low, high))
    window, strides = (draw(1, 5), draw(1, 5)), (draw(2, 4), draw(2, 4))
    pairs = tuple((draw(0, 5), draw(0, 5)) for _ in window)
    sizes = [max(1, f - sum(pair)) + draw(0, 7) for f, pair in zip(window, pairs, strict=True)]
    x = jnp.asarray(random(draw(1, 2), *sizes, draw(1, 4)))
    kernel = jnp.asarray(random(*window, x.shape[-1], draw(1, 3), seed=1))
    both = jax.jit(lambda *a: [derivatives(way)(*a) for way in ways(strides, pairs)])
    assert_close(*both(x, kernel))


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.bfloat16, 1e-2), (jnp.float64, 1e-14)])
def test_other_types_and_vmap(dtype, tolerance):
    with jax.enable_x64(True):
        x, kernel = random(3, 2, 9, 8, 3), random(3, 7, 7, 3, 4, seed=1)
        arrays = jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)
        made = ways((2, 2), ((3, 3), (3, 3)))
        folded, expected = jax.jit(lambda *a: [jax.vmap(way)(*a) for way in made])(*arrays)
        assert folded.dtype == expected.dtype == dtype
        wide = [np.asarray(each, np.float64) for each in (folded, expected)]
        np.testing.assert_allclose(*wide, atol=tolerance * np.abs(wide[1]).max(), rtol=tolerance)


def test_a_gpu_gets_the_folded_convolution_and_others_xlas():
    x, kernel = jnp.ones((2, 32, 32, 3)), jnp.ones((7, 7, 3, 8))

    def gradient(x, kernel):
        return jax.grad(lambda k: conv2d(x, k, stride=2, padding=3).sum())(kernel)

    for platform, folded in (("cuda", True), ("tpu", False)):
        program = lowered(gradient, x, kernel, platform=platform)
        assert program.count("stablehlo.convolution") == 1
        assert ("x4x4x12x8xf32" in program or "tensor<4x4x12x8xf32>" in program) == folded


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((1, 8, 8, 3), (1, 1)), ((1, 8, 8, 3), (2, 1)), ((1, 8, 8, 8), (2, 2)), ((1, 8, 3), (2,))],
)
def test_other_convolutions_are_not_folded(shape, strides):
    assert not fits(jnp.ones(shape), strides)
