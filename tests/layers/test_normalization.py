from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from cnn_jax import layers
from tests.layers.checks import check_layer, random

SHAPES = [(6, 3), (2, 3, 4, 3), (2, 2, 3, 2, 3)]


def _arguments(shape):
    """x, scale, bias, mean and var for an input of that shape."""
    channels = shape[-1]
    scale, bias, mean = (random(channels, seed=s) for s in (1, 2, 3))
    return 3 * random(*shape) + 1, scale, bias, mean, np.abs(random(channels, seed=4)) + 0.5


def _standardise(x, axes, epsilon):
    wide = np.asarray(x, np.float64)
    mean, var = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
    return (wide - mean) / np.sqrt(var + epsilon)


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_in_training_uses_the_batch(shape):
    x, scale, bias, mean, var = _arguments(shape)
    axes = tuple(range(len(shape) - 1))
    layer = lambda *a: layers.batch_norm(*a, train=True, momentum=0.7, epsilon=1e-3)
    running_mean = 0.7 * mean + 0.3 * x.mean(axes, dtype=np.float64)
    running_var = 0.7 * var + 0.3 * x.var(axes, dtype=np.float64)
    expected = [_standardise(x, axes, 1e-3) * scale + bias, running_mean, running_var]

    def flat(*arrays):
        y, (new_mean, new_var) = layer(*arrays)
        return jnp.concatenate([y.ravel(), new_mean, new_var])

    expected = np.concatenate([part.ravel() for part in expected])
    check_layer(flat, (x, scale, bias, mean, var), expected, atol=1e-4)


def test_batch_norm_in_evaluation_uses_the_running_statistics():
    x, scale, bias, mean, var = _arguments((2, 3, 4, 3))
    layer = lambda *a: layers.batch_norm(*a, train=False)
    expected = (x.astype(np.float64) - mean) / np.sqrt(var + 1e-5) * scale + bias
    check_layer(
        lambda x, s, b: layer(x, s, b, jnp.asarray(mean), jnp.asarray(var))[0],
        (x, scale, bias),
        expected,
    )
    _, (new_mean, new_var) = layer(*map(jnp.asarray, (x, scale, bias, mean, var)))
    np.testing.assert_array_equal(new_mean, mean)
    np.testing.assert_array_equal(new_var, var)


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_agrees_with_flax(train):
    x, scale, bias, mean, var = map(jnp.asarray, _arguments((2, 3, 4, 3)))
    module = nn.BatchNorm(momentum=0.9, epsilon=1e-5, use_running_average=not train)
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "var": var},
    }
    expected, updated = module.apply(variables, x, mutable=["batch_stats"])
    y, (new_mean, new_var) = layers.batch_norm(x, scale, bias, mean, var, train=train)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(new_mean, updated["batch_stats"]["mean"], rtol=1e-5)
    np.testing.assert_allclose(new_var, updated["batch_stats"]["var"], rtol=1e-5)


def test_batch_norm_without_scale_and_bias_standardises():
    x = 3 * random(5, 4, 2) + 1
    y, _ = layers.batch_norm(jnp.asarray(x), None, None, jnp.zeros(2), jnp.ones(2), train=True)
    np.testing.assert_allclose(y, _standardise(x, (0, 1), 1e-5), rtol=1e-4, atol=1e-5)


def test_batch_norm_over_a_mapped_axis_is_that_of_the_whole_batch():
    x, *rest = map(jnp.asarray, _arguments((8, 3, 3)))
    x = (
        x + jnp.arange(8.0)[:, None, None]
    )  # parts differ in mean: averaging variances would be wrong

    def whole(x):
        y, statistics = layers.batch_norm(x, *rest, train=True)
        return (y**3).sum(), statistics

    def parts(x):
        norm = lambda part: layers.batch_norm(part, *rest, train=True, axis_name="parts")
        y, statistics = jax.vmap(norm, axis_name="parts")(x.reshape(4, 2, 3, 3))
        return (y**3).sum(), statistics

    (loss, statistics), gradient = jax.jit(jax.value_and_grad(whole, has_aux=True))(x)
    (part_loss, part_statistics), part_gradient = jax.jit(jax.value_and_grad(parts, has_aux=True))(
        x
    )
    np.testing.assert_allclose(part_loss, loss, rtol=1e-5)
    np.testing.assert_allclose(part_gradient, gradient, rtol=1e-4, atol=1e-5)
    for ours, one in zip(part_statistics, statistics, strict=True):
        np.testing.assert_allclose(ours, jnp.tile(one, (4, 1)), rtol=1e-5)


def test_batch_norm_over_devices_is_that_of_the_whole_batch():
    whole, *rest = map(jnp.asarray, _arguments((16, 3)))
    norm = lambda x, *rest: layers.batch_norm(x, *rest, train=True, axis_name="data")
    mesh = jax.make_mesh((8,), ("data",))
    specs = {"in_specs": (P("data"), *(P(),) * 4), "out_specs": (P("data"), (P(), P()))}
    x = jax.device_put(whole, NamedSharding(mesh, P("data")))
    y, statistics = jax.jit(jax.shard_map(norm, mesh=mesh, **specs))(x, *rest)
    expected, expected_statistics = layers.batch_norm(whole, *rest, train=True)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for ours, one in zip(statistics, expected_statistics, strict=True):
        np.testing.assert_allclose(ours, one, rtol=1e-5)


def test_batch_norm_far_from_zero_does_not_cancel():
    x = random(4096, 1) + 3e4
    arguments = (jnp.asarray(x), None, None, jnp.zeros(1), jnp.zeros(1))
    y, (_, var) = layers.batch_norm(*arguments, train=True, momentum=0.0)
    np.testing.assert_allclose(var, x.astype(np.float64).var(0), rtol=1e-3)
    assert abs(float(y.std()) - 1) < 1e-3


def test_batch_norm_of_a_constant_is_the_bias():
    x, bias = jnp.full((4, 3, 2), 7.0), jnp.array([1.0, -2.0])
    y, (_, var) = layers.batch_norm(x, jnp.ones(2), bias, jnp.zeros(2), jnp.ones(2), train=True)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, y.shape))
    np.testing.assert_allclose(var, 0.9)


def test_the_variance_of_a_constant_has_its_second_derivative():
    def variance(x):
        arguments = (x, None, None, jnp.zeros(1), jnp.zeros(1))
        return layers.batch_norm(*arguments, train=True, momentum=0.0)[1][1].sum()

    found, expected = (jax.jit(jax.hessian(f))(jnp.ones((3, 1))) for f in (variance, jnp.var))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_layer_norm_agrees_with_flax(shape):
    x, scale, bias = _arguments(shape)[:3]
    variables = {"params": {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}}
    expected = jax.jit(nn.LayerNorm().apply)(variables, x)
    np.testing.assert_allclose(
        expected, _standardise(x, -1, 1e-6) * scale + bias, rtol=1e-3, atol=1e-3
    )
    layer = lambda *a: layers.layer_norm(*a)
    check_layer(layer, (x, scale, bias), expected, rtol=1e-3, atol=1e-3)
    plain = jax.jit(lambda x: layers.layer_norm(x, None, None))(x)
    np.testing.assert_allclose(plain, _standardise(x, -1, 1e-6), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (2, 5, 6)])
def test_group_norm_standardises_each_group(shape, groups):
    x, scale, bias = _arguments(shape)[:3]
    size = 6 // groups
    expected = np.zeros(shape)
    for image in range(shape[0]):
        for g in range(groups):
            channels = slice(g * size, (g + 1) * size)
            expected[image, ..., channels] = _standardise(x[image, ..., channels], None, 1e-6)
    expected = expected * scale + bias
    check_layer(
        lambda *a: layers.group_norm(*a, groups=groups), (x, scale, bias), expected, atol=1e-4
    )


@pytest.mark.parametrize("groups", [4, 0])
def test_group_norm_refuses_groups_that_do_not_divide(groups):
    with pytest.raises(ValueError, match=f"6 channels cannot be split into {groups}"):
        layers.group_norm(jnp.zeros((1, 2, 6)), None, None, groups=groups)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", ["scale", "bias", "mean", "var"])
def test_norms_refuse_anything_but_one_number_for_each_channel(name, size):
    wrong = {name: jnp.ones(size)}
    x, right = jnp.zeros((2, 4, 6)), {"scale": None, "bias": None}
    statistics = {"mean": jnp.zeros(6), "var": jnp.ones(6)}
    calls = [partial(layers.batch_norm, x, **right | statistics | wrong, train=True)]
    if name in right:
        calls.append(partial(layers.layer_norm, x, **right | wrong))
        calls.append(partial(layers.group_norm, x, **right | wrong, groups=2))
    for call in calls:
        with pytest.raises(ValueError, match=rf"{name} of shape \({size},\) .* each of 6 channels"):
            call()


@pytest.mark.parametrize("channels, size", [(7, 5), (2, 5), (4, 3), (3, 1)])
def test_local_response_norm_is_the_papers_formula(channels, size):
    x = 3 * random(2, 3, channels)
    options = {"size": size, "k": 1.5, "alpha": 0.1, "beta": 0.6}
    expected = np.zeros(x.shape)
    for i in range(channels):
        near = x[..., max(0, i - size // 2) : min(channels - 1, i + size // 2) + 1]
        expected[..., i] = x[..., i] / (1.5 + 0.1 * (near.astype(np.float64) ** 2).sum(-1)) ** 0.6
    check_layer(lambda x: layers.local_response_norm(x, **options), (x,), expected)


def test_local_response_norm_has_the_papers_constants():
    y = layers.local_response_norm(jnp.full((1, 5), 100.0))
    np.testing.assert_allclose(y[0, 2], 100 / (2 + 1e-4 * 5 * 100**2) ** 0.75, rtol=1e-5)


@pytest.mark.parametrize("size", [4, 0])
def test_local_response_norm_wants_an_odd_size(size):
    with pytest.raises(ValueError, match="size must be odd"):
        layers.local_response_norm(jnp.zeros((1, 3)), size=size)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_statistics_of_half_precision_are_taken_in_float32(dtype):
    x = (100 * random(512, 4) + 300).astype(np.float32)
    half, ones, zeros = jnp.asarray(x, dtype), jnp.ones(4), jnp.zeros(4)

    @jax.jit
    def run(half, ones, zeros):
        others = (
            layers.layer_norm(half, ones, zeros),
            layers.group_norm(half, ones, zeros, groups=2),
            layers.local_response_norm(half),
        )
        arguments = (half, ones, zeros, zeros, ones)
        return layers.batch_norm(*arguments, train=True, momentum=0.0), others

    (y, (mean, var)), others = run(half, ones, zeros)
    assert y.dtype == dtype
    assert mean.dtype == var.dtype == jnp.float32
    np.testing.assert_allclose(var, np.asarray(half, np.float64).var(0), rtol=1e-4)
    exact = _standardise(half, 0, 1e-5)
    rounding = float(jnp.finfo(dtype).eps)  # that of the result alone
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, rtol=rounding, atol=1e-4)
    assert all(other.dtype == dtype and bool(jnp.isfinite(other).all()) for other in others)
