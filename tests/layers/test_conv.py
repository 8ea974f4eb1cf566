import inspect
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax import layers
from tests.layers import reference
from tests.layers.checks import check_layer, random

# spatial shape, window, options
CASES = {
    "same": ((5, 6), (3, 2), {}),
    "same, stride 2": ((6, 5), (3, 3), {"stride": 2}),
    "same, stride beyond the window": ((7, 5), (2, 1), {"stride": 3}),
    "same, dilated": ((6, 7), (3, 2), {"dilation": (2, 3)}),
    "valid": ((6, 5), (3, 3), {"padding": "VALID"}),
    "int, strides": ((6, 5), (3, 2), {"padding": 2, "stride": (1, 2)}),
    "pairs": ((4, 5), (3, 3), {"padding": [(0, 2), (1, 0)]}),
    "groups": ((4, 4), (3, 3), {"groups": 2}),
    "edge": ((4, 5), (3, 5), {"border": "edge"}),
    "reflect": ((4, 5), (3, 5), {"border": "reflect"}),
    "circular": ((4, 5), (4, 3), {"border": "circular", "stride": 2}),
    "circular, more than once round": ((3, 4), (3, 3), {"border": "circular", "padding": 4}),
    "1d": ((7,), (3,), {"stride": 2, "dilation": 2}),
    "3d": ((4, 3, 5), (2, 3, 2), {"stride": (1, 2, 2)}),
}


def _explicit(sizes, windows, options):
    """The reference's options from the layer's, worked out without the code under test."""
    rank = len(sizes)
    spread = lambda v: (v,) * rank if isinstance(v, int) else v
    strides, dilations = spread(options.get("stride", 1)), spread(options.get("dilation", 1))
    padding = options.get("padding", "SAME")
    if padding == "SAME":
        pairs = reference.same_pairs(sizes, windows, strides, dilations)
    else:
        low = 0 if padding == "VALID" else padding
        pairs = ((low, low),) * rank if isinstance(low, int) else padding
    rest = {k: options[k] for k in ("groups", "border") if k in options}
    return {"strides": strides, "dilations": dilations, "pairs": pairs, **rest}


@pytest.mark.parametrize("case", CASES)
def test_conv_is_the_loop_over_windows(case):
    sizes, windows, options = CASES[case]
    x = random(2, *sizes, 4)
    kernel = random(*windows, 4 // options.get("groups", 1), 6, seed=1)
    bias = random(6, seed=2)
    expected = reference.convolve(x, kernel, **_explicit(sizes, windows, options)) + bias
    check_layer(lambda *a: layers.conv(*a, **options), (x, kernel, bias), expected)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_conv_is_the_loop_for_random_geometry(data):
    rank = data.draw(st.integers(1, 2))
    dims = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(rank))
    windows, strides, dilations = dims(1, 3), dims(1, 3), dims(1, 2)
    low, high = dims(0, 2), dims(0, 2)
    border = data.draw(st.sampled_from(["zero", "edge", "reflect", "circular"]))
    spans = [d * (f - 1) + 1 for f, d in zip(windows, dilations, strict=True)]
    sizes = tuple(s + n for s, n in zip(spans, dims(2, 3), strict=True))
    options = {
        "stride": strides,
        "dilation": dilations,
        "padding": list(zip(low, high, strict=True)),
        "border": border,
    }
    x, kernel = random(1, *sizes, 2), random(*windows, 2, 3, seed=1)
    y = jax.jit(partial(layers.conv, **options))(x, kernel)
    expected = reference.convolve(x, kernel, **_explicit(sizes, windows, options))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_named_ranks_are_conv(rank):
    x, kernel = jnp.asarray(random(1, *(4,) * rank, 4)), jnp.asarray(random(*(2,) * rank, 2, 6))
    options = {"stride": 2, "padding": 1, "border": "edge", "dilation": 2, "groups": 2}
    named = getattr(layers, f"conv{rank}d")
    np.testing.assert_array_equal(
        named(x, kernel, **options), layers.conv(x, kernel, **options), strict=True
    )
    options = {"stride": 2, "padding": "VALID", "dilation": 2}
    named, kernel = (
        getattr(layers, f"conv_transpose{rank}d"),
        jnp.asarray(random(*(2,) * rank, 4, 6)),
    )
    np.testing.assert_array_equal(
        named(x, kernel, **options), layers.conv_transpose(x, kernel, **options), strict=True
    )


@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_filters_each_channel_alone(multiplier):
    x, kernel, bias = (
        random(2, 4, 5, 2),
        random(3, 3, 1, 2 * multiplier, seed=1),
        random(2 * multiplier),
    )
    options = {"strides": (1, 1), "dilations": (1, 1), "pairs": ((1, 1), (1, 1)), "border": "edge"}
    expected = np.zeros((2, 4, 5, 2 * multiplier))
    for c in range(2):
        for m in range(multiplier):
            o = c * multiplier + m
            expected[..., o] = reference.convolve(
                x[..., c : c + 1], kernel[..., o : o + 1], **options
            )[..., 0]
    layer = lambda *a: layers.depthwise_conv2d(*a, border="edge")
    check_layer(layer, (x, kernel, bias), expected + bias)


TRANSPOSED = {
    "same": ((4, 3), (3, 2), {"stride": 2}),
    "same, stride 1": ((4, 3), (4, 3), {}),
    "same, stride beyond the window": ((2, 3), (2, 1), {"stride": 3}),
    "same, dilated": ((3, 4), (3, 2), {"stride": 2, "dilation": (2, 3)}),
    "valid": ((3, 4), (3, 2), {"stride": (2, 3), "padding": "VALID"}),
    "int": ((3, 4), (4, 4), {"stride": 2, "padding": 2}),
    "pairs": ((3, 4), (3, 3), {"stride": 2, "padding": [(0, 2), (3, 1)]}),
    "1d": ((4,), (3,), {"stride": 2}),
    "3d": ((2, 3, 2), (2, 3, 1), {"stride": 2}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose_agrees_with_flax(case):
    sizes, window, options = TRANSPOSED[case]
    x, kernel, bias = random(2, *sizes, 3), random(*window, 3, 4, seed=1), random(4, seed=2)
    rank = len(sizes)
    spread = lambda v: (v,) * rank if isinstance(v, int) else v
    module = nn.ConvTranspose(
        4,
        window,
        strides=spread(options.get("stride", 1)),
        padding=options.get("padding", "SAME"),
        kernel_dilation=spread(options.get("dilation", 1)),
    )
    variables = {"params": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}
    expected = jax.jit(module.apply)(variables, x)
    check_layer(lambda *a: layers.conv_transpose(*a, **options), (x, kernel, bias), expected)


@pytest.mark.parametrize(
    "options, lows, outputs",
    [({"stride": 2}, (2, 1), (8, 6)), ({"stride": 2, "padding": [(1, 2), (2, 0)]}, (1, 2), (8, 6))],
)
def test_conv_transpose_scatters_through_the_kernel(options, lows, outputs):
    x, kernel = random(1, 4, 3, 2), random(3, 2, 2, 3, seed=1)
    y = layers.conv_transpose(jnp.asarray(x), jnp.asarray(kernel), **options)
    expected = reference.convolve_transposed(
        x, kernel, strides=(2, 2), lows=lows, outputs=outputs, dilations=(1, 1)
    )
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 0.05), ("float16", 5e-3)])
@pytest.mark.parametrize("layer", [layers.conv2d, layers.conv_transpose2d])
def test_output_has_the_inputs_dtype(layer, dtype, tolerance):
    x, kernel, bias = (jnp.asarray(random(*s)) for s in [(1, 4, 4, 2), (3, 3, 2, 2), (2,)])
    y = layer(x.astype(dtype), kernel, bias)  # float32 weights are cast
    assert y.dtype == dtype
    np.testing.assert_allclose(
        y.astype(jnp.float32), layer(x, kernel, bias), rtol=tolerance, atol=4 * tolerance
    )


def test_float64_is_computed_in_float64():
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 2)))
        kernel = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 2, 2)))
        y = layers.conv2d(x, kernel)
        expected = reference.convolve(
            x, kernel, strides=(1, 1), dilations=(1, 1), pairs=((1, 1), (1, 1))
        )
        assert y.dtype == jnp.float64
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_an_empty_batch_gives_an_empty_batch():
    y = layers.conv2d(jnp.zeros((0, 4, 4, 2)), jnp.zeros((3, 3, 2, 5)), jnp.zeros(5))
    assert y.shape == (0, 4, 4, 5)


X, KERNEL = (1, 3, 3, 4), (3, 3, 4, 6)


@pytest.mark.parametrize(
    "x, kernel, bias, options, message",
    [
        ((1, 4), (4, 6), None, {}, "1 to 3 spatial dimensions"),
        ((1, 2, 2, 2, 2, 4), (1, 1, 1, 1, 4, 6), None, {}, "1 to 3 spatial dimensions"),
        (X, (3, 4, 6), None, {}, "2 window dimensions"),
        ((1, 3, 3, 5), KERNEL, None, {}, "5 channels does not fit a kernel that takes 4"),
        (X, (3, 3, 2, 5), None, {"groups": 2}, "5 output channels cannot be split into 2"),
        (X, KERNEL, None, {"groups": 0}, "groups must be at least 1"),
        (X, KERNEL, (5,), {}, r"bias has shape \(5,\), where \(6,\)"),
        (X, (5, 5, 4, 6), None, {"padding": "VALID"}, "window 5 does not fit an input of 3"),
        (X, KERNEL, None, {"padding": "VALID", "dilation": 2}, "spread over 5 by dilation 2"),
        (X, KERNEL, None, {"padding": "same"}, "unknown padding 'same'"),
        (X, KERNEL, None, {"padding": (1, 1)}, "one .low, high. pair for each of 2"),
        (X, KERNEL, None, {"padding": [(1, 1)]}, "one .low, high. pair for each of 2"),
        (X, KERNEL, None, {"padding": -1}, "at least 0"),
        (X, KERNEL, None, {"border": "mirror"}, "unknown border 'mirror'"),
        (X, KERNEL, None, {"border": "reflect", "padding": 3}, "reflect border of 3 is wider"),
        (X, KERNEL, None, {"stride": 0}, "stride must be a positive integer"),
        (X, KERNEL, None, {"stride": (1, 1, 1)}, "stride .* for each of 2 dimensions"),
        (X, (0, 3, 4, 6), None, {}, "window must be a positive integer"),
    ],
)
def test_conv_refuses_what_does_not_fit(x, kernel, bias, options, message):
    bias = None if bias is None else jnp.zeros(bias)
    with pytest.raises(ValueError, match=message):
        layers.conv(jnp.zeros(x), jnp.zeros(kernel), bias, **options)


@pytest.mark.parametrize(
    "x, kernel, options, message",
    [
        (X, (3, 3, 5, 6), {}, "4 channels does not fit"),
        (X, (3, 4, 6), {}, "2 window dimensions"),
        (X, (5, 5, 4, 6), {"padding": 0}, "window 5 does not fit"),
        (X, KERNEL, {"padding": "FULL"}, "unknown padding 'FULL'"),
        (X, (3, 0, 4, 6), {}, "window must be a positive integer"),
    ],
)
def test_conv_transpose_refuses_what_does_not_fit(x, kernel, options, message):
    with pytest.raises(ValueError, match=message):
        layers.conv_transpose(jnp.zeros(x), jnp.zeros(kernel), **options)


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d", "conv_transpose2d"])
def test_named_ranks_refuse_other_ranks_without_type_checks(name):
    unchecked = inspect.unwrap(getattr(layers, name))
    with pytest.raises(ValueError, match="with 2 spatial dimensions"):
        unchecked(jnp.zeros((1, 4, 2)), jnp.zeros((3, 2, 2)))
