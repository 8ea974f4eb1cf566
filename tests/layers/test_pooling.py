import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import layers
from tests.layers import reference
from tests.layers.checks import check_layer, distinct

# spatial shape, options, and windows, strides and pairs as the reference wants them
CASES = {
    "tiles": ((4, 6), {"window": 2}, (2, 2), (2, 2), ((0, 0), (0, 0))),
    "leaves a remainder": ((5, 7), {"window": 2}, (2, 2), (2, 2), ((0, 0), (0, 0))),
    "overlaps": ((7, 5), {"window": 3, "stride": 2}, (3, 3), (2, 2), ((0, 0), (0, 0))),
    "uneven": ((4, 5), {"window": (2, 3), "stride": (1, 2)}, (2, 3), (1, 2), ((0, 0), (0, 0))),
    "same": ((4, 5), {"window": 2, "padding": "SAME"}, (2, 2), (2, 2), ((0, 0), (0, 1))),
    "int": ((4, 5), {"window": 3, "stride": 2, "padding": 1}, (3, 3), (2, 2), ((1, 1), (1, 1))),
    "pairs": ((4, 4), {"window": 3, "padding": [(2, 0), (0, 2)]}, (3, 3), (3, 3), ((2, 0), (0, 2))),
    "1d": ((6,), {"window": 3, "stride": 2}, (3,), (2,), ((0, 0),)),
    "3d": ((4, 2, 4), {"window": 2}, (2, 2, 2), (2, 2, 2), ((0, 0),) * 3),
}
CASES = {
    name: (case[0], case[1], dict(zip(("windows", "strides", "pairs"), case[2:], strict=True)))
    for name, case in CASES.items()
}


@pytest.mark.parametrize("case", CASES)
def test_max_pool_is_the_loop_over_windows(case):
    sizes, options, explicit = CASES[case]
    x = distinct(2, *sizes, 3) - 20  # all negative: zeros from the padding would show
    expected = reference.pool(x, lambda seen: seen.max(0), **explicit)
    check_layer(lambda x: layers.max_pool(x, **options), (x,), expected)


@pytest.mark.parametrize("case", CASES)
def test_avg_pool_is_the_loop_over_windows(case):
    sizes, options, explicit = CASES[case]
    x = distinct(2, *sizes, 3)
    expected = reference.pool(x, lambda seen: seen.mean(0), **explicit)
    check_layer(lambda x: layers.avg_pool(x, **options), (x,), expected)


@pytest.mark.parametrize("case", ["same", "int", "tiles"])
def test_avg_pool_may_count_the_padding(case):
    sizes, options, explicit = CASES[case]
    x = distinct(2, *sizes, 3)
    size = np.prod(explicit["windows"])
    expected = reference.pool(x, lambda seen: seen.sum(0) / size, **explicit)
    layer = lambda x: layers.avg_pool(x, **options, count_padding=True)
    check_layer(layer, (x,), expected)


def test_pools_agree_with_flax():
    x = jnp.asarray(distinct(2, 5, 5, 3))
    ours = {"window": 3, "stride": 2, "padding": "SAME"}
    flax = {"window_shape": (3, 3), "strides": (2, 2), "padding": "SAME"}
    np.testing.assert_array_equal(layers.max_pool(x, **ours), nn.max_pool(x, **flax))
    for count in (False, True):
        with jax.numpy_dtype_promotion("standard"):  # Flax divides by an integer
            expected = nn.avg_pool(x, **flax, count_include_pad=count)
        y = layers.avg_pool(x, **ours, count_padding=count)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window, stride", [(2, 2), (3, 1)])
def test_max_pool_gives_a_tie_to_the_first(window, stride):
    pool = lambda x: layers.max_pool(x, window=window, stride=stride).sum()
    gradient = jax.jit(jax.grad(pool))(jnp.zeros((1, 4, 4, 1)))[0, :, :, 0]
    starts = range(0, 4 - window + 1, stride)
    expected = [[float(i in starts and j in starts) for j in range(4)] for i in range(4)]
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 3, 4, 3), (2, 2, 3, 2, 3)])
def test_global_pools_leave_one_number_per_channel(shape):
    x = distinct(*shape)
    axes = tuple(range(1, len(shape) - 1))
    check_layer(layers.global_max_pool, (x,), x.max(axes))
    check_layer(layers.global_avg_pool, (x,), x.astype(np.float64).mean(axes))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_summed_in_float32(dtype):
    x = jnp.ones((1, 64, 64, 1), dtype).at[0, 0, 0, 0].set(2)
    assert layers.max_pool(x, window=2).dtype == dtype
    for y in (layers.avg_pool(x, window=64).ravel(), layers.global_avg_pool(x).ravel()):
        assert y.dtype == dtype
        assert y[0] == 1  # a sum in half precision would stop growing at 256, or overflow


@pytest.mark.parametrize("pool", [layers.max_pool, layers.avg_pool])
@pytest.mark.parametrize(
    "shape, options, message",
    [
        ((1, 3, 3, 1), {"window": 4}, "window 4 does not fit an input of 3"),
        ((1, 3, 3, 1), {"window": 2, "padding": 2}, "padding of 2 must be smaller than the window"),
        ((1, 3, 3, 1), {"window": 2, "padding": "valid"}, "unknown padding 'valid'"),
        ((1, 3, 3, 1), {"window": (2, 2, 2)}, "window .* for each of 2 dimensions"),
        ((1, 3, 3, 1), {"window": 2, "stride": 0}, "stride must be a positive integer"),
        ((1, 3), {"window": 2}, "1 to 3 spatial dimensions"),
    ],
)
def test_pools_refuse_what_does_not_fit(pool, shape, options, message):
    with pytest.raises(ValueError, match=message):
        pool(jnp.zeros(shape), **options)


@pytest.mark.parametrize("pool", [layers.global_avg_pool, layers.global_max_pool])
def test_global_pools_need_an_image(pool):
    with pytest.raises(ValueError, match="1 to 3 spatial dimensions"):
        pool(jnp.zeros((2, 3)))
