"""Blocks against the same operations written out with pure layers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import layers
from cnn_jax.models.residual import BasicBlock, Bottleneck, PadShortcut
from cnn_jax.models.wide_resnet import PreActivationBlock
from tests.models.networks import make_images, make_variables

STRIDES = pytest.mark.parametrize("stride", [1, 2])


def _written_out(variables):
    """Returns conv(x, suffix, padding, stride) and norm(x, suffix) with a block's variables."""
    params, statistics = variables["params"], variables["batch_stats"]

    def conv(x, suffix, padding, stride=1):
        kernel = params[f"conv{suffix}"]["kernel"]
        return layers.conv2d(x, kernel, stride=stride, padding=[(padding, padding)] * 2)

    def norm(x, suffix):
        p, s = params[f"norm{suffix}"], statistics[f"norm{suffix}"]
        return layers.batch_norm(
            x, p["scale"], p["bias"], s["mean"], s["var"], train=False, epsilon=1e-5
        )[0]

    return conv, norm


def _basic(x, conv, norm, stride, shortcut):
    y = layers.relu(norm(conv(x, 1, 1, stride), 1))
    return layers.relu(shortcut(x) + norm(conv(y, 2, 1), 2))


def _bottleneck(x, conv, norm, stride, shortcut):
    y = layers.relu(norm(conv(x, 1, 0), 1))
    y = layers.relu(norm(conv(y, 2, 1, stride), 2))
    return layers.relu(shortcut(x) + norm(conv(y, 3, 0), 3))


def _pre_activation(x, conv, norm, stride, shortcut):
    del shortcut
    y = layers.relu(norm(x, 1))
    z = conv(layers.relu(norm(conv(y, 1, 1, stride), 2)), 2, 1)
    return conv(y, "_shortcut", 0, stride) + z


@STRIDES
@pytest.mark.parametrize(
    ("block", "expected"),
    [(BasicBlock, _basic), (Bottleneck, _bottleneck), (PreActivationBlock, _pre_activation)],
)
def test_a_block_that_changes_the_shape_projects_its_shortcut(block, expected, stride):
    model = block(4, stride=stride)
    variables = make_variables(model, (7, 7, 3))
    x = make_images((7, 7, 3))
    conv, norm = _written_out(variables)
    shortcut = lambda x: norm(conv(x, "_shortcut", 0, stride), "_shortcut")

    @jax.jit
    def both(x):
        return model.apply(variables, x, train=False), expected(x, conv, norm, stride, shortcut)

    result, written_out = both(x)
    assert result.shape[1:3] == ((7, 7) if stride == 1 else (4, 4))
    np.testing.assert_allclose(result, written_out, atol=1e-5)


@pytest.mark.parametrize(
    ("block", "features", "expected"),
    [(BasicBlock, 8, _basic), (Bottleneck, 2, _bottleneck)],
)
def test_a_block_that_keeps_the_shape_adds_its_input(block, features, expected):
    model = block(features)
    x = make_images((5, 5, 8))
    variables = make_variables(model, (5, 5, 8))
    assert "conv_shortcut" not in variables["params"]
    conv, norm = _written_out(variables)

    @jax.jit
    def both(x):
        return model.apply(variables, x, train=False), expected(x, conv, norm, 1, lambda x: x)

    np.testing.assert_allclose(*both(x), atol=1e-5)


@pytest.mark.parametrize("size", [4, 5])
def test_the_shortcut_without_parameters_is_every_other_pixel_and_zeros(size):
    x = make_images((size, size, 3))
    result = np.asarray(PadShortcut(5, 2).apply({}, x))
    expected = np.zeros((2, (size + 1) // 2, (size + 1) // 2, 5), np.float32)
    for i in range(0, size, 2):
        for j in range(0, size, 2):
            expected[:, i // 2, j // 2, :3] = x[:, i, j]
    np.testing.assert_array_equal(result, expected)


def test_stochastic_depth_drops_the_branches_of_some_examples_alone():
    model = BasicBlock(3, drop_path=0.5)
    variables = make_variables(model, (4, 4, 3))
    x = make_images((4, 4, 3), count=1).repeat(64, axis=0)
    apply = partial(model.apply, train=True, mutable=["batch_stats"])
    dropped = apply(variables, x, rngs={"dropout": jax.random.key(0)})[0]
    is_input = jnp.isclose(dropped, layers.relu(x)).all(axis=(1, 2, 3))
    assert 20 <= is_input.sum() <= 44
    kept = dropped[~is_input]
    np.testing.assert_allclose(kept, kept[:1].repeat(len(kept), axis=0), rtol=1e-5)
