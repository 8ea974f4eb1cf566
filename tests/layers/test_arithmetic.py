import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnn_jax import layers
from cnn_jax.layers import arithmetic

fast = settings(max_examples=100, deadline=None, derandomize=True)
sizes, windows, strides, dilations = (
    st.integers(1, 20),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 4),
)
paddings = st.one_of(
    st.sampled_from(["SAME", "VALID"]),
    st.integers(0, 5),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
)


def _shape(layer, *shapes):
    return jax.eval_shape(layer, *(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes)).shape


def _as_pairs(padding):
    return [padding] if isinstance(padding, tuple) else padding


def _or_none(formula, *args, **options):
    """The formula's value, or None where it refuses."""
    try:
        return formula(*args, **options)
    except ValueError:
        return None


@fast
@given(sizes, windows, strides, paddings, dilations)
def test_output_size_is_the_convolutions(n, window, stride, padding, dilation):
    options = {"stride": stride, "dilation": dilation}
    expected = _or_none(layers.output_size, n, window, padding=padding, **options)
    pairs = _as_pairs(padding)
    layer = lambda x, k: layers.conv1d(x, k, padding=pairs, **options)
    shape = _or_none(_shape, layer, (1, n, 1), (window, 1, 1))
    assert shape == (None if expected is None else (1, expected, 1))


@fast
@given(sizes, windows, strides, st.integers(0, 5), dilations)
def test_output_size_counts_the_windows_that_fit(n, window, stride, padding, dilation):
    padded, reach = n + 2 * padding, dilation * (window - 1)
    starts = [i for i in range(0, padded, stride) if i + reach < padded]
    size = _or_none(
        layers.output_size, n, window, stride=stride, padding=padding, dilation=dilation
    )
    assert (size or 0) == len(starts)


@fast
@given(sizes, windows, strides, paddings)
def test_output_size_is_the_poolings(n, window, stride, padding):
    expected = _or_none(layers.output_size, n, window, stride=stride, padding=padding)
    assume(expected is not None)
    low_high = padding if isinstance(padding, tuple) else (padding, padding)
    assume(isinstance(padding, str) or max(low_high) < window)
    options = {"window": window, "stride": stride, "padding": _as_pairs(padding)}
    for pool in (layers.max_pool, layers.avg_pool):
        assert _shape(lambda x, pool=pool: pool(x, **options), (1, n, 1)) == (1, expected, 1)


@fast
@given(sizes, windows, strides, paddings, dilations)
def test_transposed_output_size_is_the_layers(n, window, stride, padding, dilation):
    options = {"stride": stride, "dilation": dilation}
    expected = _or_none(layers.transposed_output_size, n, window, padding=padding, **options)
    pairs = _as_pairs(padding)
    layer = lambda x, k: layers.conv_transpose1d(x, k, padding=pairs, **options)
    shape = _or_none(_shape, layer, (1, n, 1), (window, 1, 1))
    assert shape == (None if expected is None else (1, expected, 1))


@fast
@given(sizes, windows, strides, dilations)
def test_transposed_sizes_are_the_textbooks(n, window, stride, dilation):
    span = layers.effective_window(window, dilation=dilation)
    size = lambda padding: layers.transposed_output_size(
        n, window, stride=stride, padding=padding, dilation=dilation
    )
    assert size("SAME") == n * stride
    assert size("VALID") == n * stride + max(span - stride, 0)
    assert size(span - 1) == (n - 1) * stride + span


@fast
@given(sizes, windows, strides, dilations)
def test_same_padding_is_xlas(n, window, stride, dilation):
    span = layers.effective_window(window, dilation=dilation)
    expected = jax.lax.padtype_to_pads((n,), (span,), (stride,), "SAME")[0]
    assert layers.same_padding(n, window, stride=stride, dilation=dilation) == tuple(expected)


@pytest.mark.parametrize(
    "n, window, options, size",
    [
        (32, 5, {}, 28),
        (227, 11, {"stride": 4}, 55),
        (7, 3, {"stride": 2, "padding": 1}, 4),
        (224, 7, {"stride": 2, "padding": 3}, 112),
        (28, 3, {"padding": "SAME"}, 28),
        (7, 3, {"dilation": 3}, 1),
        (5, 2, {"padding": (0, 1)}, 5),
    ],
)
def test_output_sizes_known_by_heart(n, window, options, size):
    assert layers.output_size(n, window, **options) == size


@pytest.mark.parametrize(
    "n, window, options, message",
    [
        (3, 5, {}, r"^window 5 does not fit an input of 3$"),
        (1, 5, {"padding": (1, 2)}, r"^window 5 does not fit an input of 1 padded by \(1, 2\)$"),
        (3, 3, {"dilation": 2}, "window 3, spread over 5 by dilation 2, does not fit"),
        (0, 3, {"padding": "SAME"}, "does not fit an input of 0"),
        (3, 3, {"padding": "full"}, "unknown padding 'full'"),
        (3, 3, {"padding": (1, 1, 1)}, "unknown padding"),
        (3, 3, {"padding": (0, -1)}, "at least 0"),
        (3, 0, {}, "window must be a positive integer"),
        (3, 3, {"stride": 0}, "stride must be a positive integer"),
        (3, 3, {"stride": -1, "padding": "SAME"}, "stride must be a positive integer"),
        (3, 3, {"dilation": 0}, "dilation must be a positive integer"),
    ],
)
def test_output_size_refuses_what_gives_none(n, window, options, message):
    with pytest.raises(ValueError, match=message):
        layers.output_size(n, window, **options)


def test_transposed_output_size_refuses_what_gives_none():
    with pytest.raises(ValueError, match="does not fit"):
        layers.transposed_output_size(1, 4, padding=0)
    with pytest.raises(ValueError, match="does not fit an input of 0"):
        layers.transposed_output_size(0, 4)
    for padding in ("SAME", "VALID", 1):
        with pytest.raises(ValueError, match="stride must be a positive integer"):
            layers.transposed_output_size(3, 4, stride=0, padding=padding)


def test_integers_may_be_numpys():
    strides = arithmetic.per_dimension.__wrapped__
    assert strides(np.int64(2), 2, "stride") == strides(np.array([2, 2]), 2, "stride") == (2, 2)
    pair = arithmetic._explicit_pair.__wrapped__
    assert pair(np.int32(1)) == pair((np.int32(1), 1)) == (1, 1)
    paddings = arithmetic.padding_per_dimension.__wrapped__
    assert paddings(np.int32(1), 2) == (1, 1)
    assert paddings(np.array([[1, 2], [3, 4]]), 2) == ((1, 2), (3, 4))


@pytest.mark.parametrize("value", [0, -1, (1, 0), (1,), (1, 2.0), "12", 2.0, None])
def test_per_dimension_wants_positive_integers(value):
    with pytest.raises(ValueError, match="stride"):
        arithmetic.per_dimension.__wrapped__(value, 2, "stride")


@pytest.mark.parametrize("value", [None, 1.5, (1, 1), [(1, 1)], ["SAME", "SAME"]])
def test_padding_per_dimension_wants_a_pair_for_each(value):
    with pytest.raises(ValueError, match=r"one \(low, high\) pair for each of 2"):
        arithmetic.padding_per_dimension.__wrapped__(value, 2)


CHAINS = [
    [(3,)],
    [(5,), (2, 2), (5,), (2, 2)],
    [(3, 1, 2), (3, 2), (1, 3), (3,)],
    [(2, 2), (3, 2, 3), (2,)],
]


@pytest.mark.parametrize("chain", CHAINS)
def test_receptive_field_is_where_the_gradient_reaches(chain):
    def network(x):
        for window, stride, dilation in ((*layer, 1, 1)[:3] for layer in chain):
            kernel = jnp.ones((window, 1, 1))
            x = layers.conv1d(x, kernel, stride=stride, dilation=dilation, padding="VALID")
        return x[0, :2, 0]

    reach = np.asarray(jax.jit(jax.jacobian(network))(jnp.ones((1, 80, 1))))[:, 0, :, 0]
    first, second = (np.flatnonzero(row) for row in reach)
    field = layers.receptive_field(chain)
    assert field.size == first[-1] - first[0] + 1
    assert field.jump == second[0] - first[0]


@pytest.mark.parametrize("layer", [(0,), (3, 0), (3, 1, 0)])
def test_receptive_field_refuses_what_does_not_slide(layer):
    with pytest.raises(ValueError, match="must be a positive integer"):
        layers.receptive_field([(3,), layer])


def test_receptive_field_of_nothing_is_a_pixel():
    assert layers.receptive_field([]) == layers.ReceptiveField(size=1, jump=1)
    stepwise = layers.ReceptiveField().through(3).through(2, stride=2).through(3, dilation=2)
    assert stepwise == layers.receptive_field([(3,), (2, 2), (3, 1, 2)])


def test_parameters_known_by_heart():
    assert layers.dense_parameters(3072, 100) == 307_300
    assert layers.conv_parameters((3, 3), 3, 100, bias=False) == 2_700
    assert layers.conv_parameters((5, 5), 3, 6) == 456
    assert layers.conv_parameters((3, 3), 3, 2) == 56
    assert layers.conv_parameters((4, 4), 3, 1) == 48 + 1


def _count(module, *shape):
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("bias", [True, False])
def test_parameters_are_those_that_flax_declares(bias):
    for window, groups in [((3, 2), 1), ((3, 3), 2), ((5,), 4), ((1, 2, 3), 2)]:
        module = nn.Conv(8, window, feature_group_count=groups, use_bias=bias)
        expected = _count(module, 1, *(9,) * len(window), 4)
        assert layers.conv_parameters(window, 4, 8, groups=groups, bias=bias) == expected
    transposed = nn.ConvTranspose(5, (3, 3), use_bias=bias)
    assert layers.conv_parameters((3, 3), 4, 5, bias=bias) == _count(transposed, 1, 4, 4, 4)
    assert layers.dense_parameters(7, 5, bias=bias) == _count(nn.Dense(5, use_bias=bias), 1, 7)
    for scale in (True, False):
        module = nn.LayerNorm(use_bias=bias, use_scale=scale)
        expected = _count(module, 1, 6) if bias or scale else 0
        assert layers.norm_parameters(6, scale=scale, bias=bias) == expected


def test_groups_that_do_not_divide_are_refused():
    for formula in (layers.conv_parameters, lambda *a, **o: layers.conv_flops((2, 2), *a, **o)):
        with pytest.raises(ValueError, match="3 input channels cannot be split into 2 groups"):
            formula((3, 3), 3, 4, groups=2)
        with pytest.raises(ValueError, match="3 output channels cannot be split into 2 groups"):
            formula((3, 3), 4, 3, groups=2)
        with pytest.raises(ValueError, match="cannot be split into 0 groups"):
            formula((3, 3), 4, 4, groups=0)


def _xla_flops(layer, *shapes):
    arguments = (jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in shapes)  # always XLA's way
    return jax.jit(layer).lower(*arguments).cost_analysis()["flops"]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_conv_flops_are_xlas_without_padding(groups, bias):
    x, kernel = (1, 9, 8, 4), (3, 2, 4 // groups, 6)
    shapes = (x, kernel, (6,)) if bias else (x, kernel)
    layer = lambda *a: layers.conv2d(*a, stride=2, padding="VALID", groups=groups)
    output = _shape(layer, *shapes)[1:-1]
    expected = layers.conv_flops(output, (3, 2), 4, 6, groups=groups, bias=bias)
    assert _xla_flops(layer, *shapes) == expected


def test_conv_flops_count_taps_on_padding():
    assert layers.conv_flops((1, 1), (3, 3), 1, 1, bias=False) == 18
    assert _xla_flops(lambda *a: layers.conv2d(*a, stride=2), (1, 1, 1, 1), (3, 3, 1, 1)) == 2


@pytest.mark.parametrize("bias", [True, False])
def test_dense_flops_are_xlas(bias):
    shapes = ((1, 7), (7, 5), (5,)) if bias else ((1, 7), (7, 5))
    assert _xla_flops(layers.dense, *shapes) == layers.dense_flops(7, 5, bias=bias)


def test_conv_transpose_flops_count_what_is_scattered():
    x, kernel = (1, 4, 5, 2), (3, 2, 2, 6)
    layer = lambda *a: layers.conv_transpose2d(*a, stride=2, padding="VALID")
    output = _shape(layer, x, kernel)[1:-1]
    scattered = sum(2 * 2 * 6 for _ in range(4 * 5) for _ in range(3 * 2))
    plain = layers.conv_transpose_flops((4, 5), output, (3, 2), 2, 6, bias=False)
    assert plain == scattered == _xla_flops(layer, x, kernel)
    biased = layers.conv_transpose_flops((4, 5), output, (3, 2), 2, 6)
    assert biased == scattered + math.prod(output) * 6


def test_pool_and_norm_flops():
    layer = lambda x: layers.max_pool(x, window=2)
    output = _shape(layer, (1, 6, 4, 3))[1:-1]
    comparisons = _xla_flops(layer, (1, 6, 4, 3))
    assert layers.pool_flops(output, (2, 2), 3) == comparisons + math.prod(output) * 3
    assert layers.norm_flops((6, 4, 3)) == 2 * 6 * 4 * 3
