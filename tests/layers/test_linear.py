import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import layers
from tests.layers.checks import check_layer, random


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_dense_is_a_sum_over_features(batch):
    x, kernel, bias = random(*batch, 5), random(5, 3, seed=1), random(3, seed=2)
    expected = np.zeros((*batch, 3))
    for i in range(5):
        expected += np.multiply.outer(x[..., i].astype(np.float64), kernel[i])
    check_layer(layers.dense, (x, kernel, bias), expected + bias)
    check_layer(layers.dense, (x, kernel), expected)


def test_dense_has_the_inputs_dtype():
    y = layers.dense(jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4)), jnp.ones(4))
    assert y.dtype == jnp.bfloat16
    assert (y == 4).all()


@pytest.mark.parametrize(
    "x, kernel, bias, message",
    [
        ((2, 3), (4, 5), None, r"kernel of shape \(4, 5\) does not fit an input of shape \(2, 3\)"),
        ((2, 3), (3, 5, 1), None, "kernel is .C_in, C_out."),
        ((2, 3), (3, 5), (1,), r"bias has shape \(1,\), where \(5,\) is needed"),
    ],
)
def test_dense_refuses_what_does_not_fit(x, kernel, bias, message):
    bias = None if bias is None else jnp.zeros(bias)
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(layers.dense)(jnp.zeros(x), jnp.zeros(kernel), bias)


def test_add_bias_adds_to_the_last_axis():
    x, bias = random(2, 3, 4), random(4, seed=1)
    check_layer(layers.add_bias, (x, bias), x + bias)
    assert layers.add_bias(jnp.ones(3), None).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("shape", "by_product"),
    [((3, 5, 8, 6), True), ((2, 3, 4, 1), True), ((2, 3, 4, 8), False), ((2, 3, 6, 6), False)],
)
def test_the_gradient_by_a_bias_is_the_sum_over_pixels_however_it_is_computed(shape, by_product):
    arrays = random(*shape), random(shape[-1], seed=1), random(*shape, seed=2)
    x, bias, weight = map(jnp.asarray, arrays)
    f = lambda x, bias: (layers.add_bias(x, bias) ** 2 * weight).sum()
    jaxpr = str(jax.make_jaxpr(jax.grad(f, argnums=1))(x, bias))
    assert ("dot_general" in jaxpr) is by_product
    expected = (2 * (arrays[0] + arrays[1]) * arrays[2]).astype(np.float64).sum((0, 1, 2))
    for grad in (jax.grad(f, argnums=1), jax.jit(jax.grad(f, argnums=1))):
        np.testing.assert_allclose(grad(x, bias), expected, rtol=1e-5, atol=1e-5)
    mapped = jax.jit(jax.vmap(jax.grad(f, argnums=1)))(*(jnp.stack([a, a]) for a in (x, bias)))
    np.testing.assert_allclose(mapped, [expected] * 2, rtol=1e-5, atol=1e-5)
    hessian = jax.jit(jax.hessian(f, argnums=1))(x, bias)
    np.testing.assert_allclose(hessian, np.diag(2 * weight.sum((0, 1, 2))), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("by_product", [True, False])
def test_the_gradient_by_a_bias_stays_float32_in_64_bit_mode(by_product):
    x, bias = jnp.zeros((2, 3, 4, 3 if by_product else 8)), jnp.zeros(3 if by_product else 8)
    with jax.enable_x64(True):
        gradient = jax.grad(lambda bias: layers.add_bias(x, bias).sum())(bias)
    assert gradient.dtype == jnp.float32
    assert (gradient == 24).all()


def test_flatten_keeps_the_order_of_c():
    x = random(2, 3, 4, 5)
    expected = [
        [image[h, w, c] for h in range(3) for w in range(4) for c in range(5)] for image in x
    ]
    check_layer(layers.flatten, (x,), np.array(expected))


@pytest.mark.parametrize("shape, flat", [((0, 3, 4), (0, 12)), ((2,), (2, 1)), ((2, 5), (2, 5))])
def test_flatten_at_the_edges(shape, flat):
    assert layers.flatten(jnp.zeros(shape)).shape == flat


@pytest.mark.parametrize(
    "shape, padding, pairs",
    [
        ((2, 3, 4, 2), 2, ((2, 2), (2, 2))),
        ((2, 3, 4, 2), [(0, 1), (2, 0)], ((0, 1), (2, 0))),
        ((2, 3, 2), 1, ((1, 1),)),
        ((1, 2, 2, 2, 1), [(1, 0), (0, 0), (0, 2)], ((1, 0), (0, 0), (0, 2))),
    ],
)
def test_zero_pad_surrounds_with_zeros(shape, padding, pairs):
    x = random(*shape)
    expected = np.pad(x, ((0, 0), *pairs, (0, 0)))
    check_layer(lambda x: layers.zero_pad(x, padding=padding), (x,), expected)


@pytest.mark.parametrize(
    "padding, message",
    [
        ("SAME", "in numbers"),
        (-1, "at least 0"),
        ([(1, 1)], "pair for each of 2 dimensions"),
    ],
)
def test_zero_pad_refuses_what_is_no_padding(padding, message):
    with pytest.raises(ValueError, match=message):
        layers.zero_pad(jnp.zeros((1, 2, 2, 1)), padding=padding)
