from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn_jax.analysis.receptive_field import (
    Box,
    box_of,
    measured_field,
    theoretical_fields,
)
from cnn_jax.errors import InputError
from cnn_jax.layers import ReceptiveField
from cnn_jax.models.modules import (
    Activation,
    Add,
    AvgPool,
    Conv,
    Dense,
    GlobalAvgPool,
    ZeroPad,
)
from cnn_jax.models.residual import PadShortcut
from tests.models.networks import make_variables, small_network

SHAPE = (21, 24, 2)


class Odd(nn.Module):
    """All that moves and widens a field: padding, strides, dilation, a branch."""

    @nn.compact
    def __call__(self, x, *, train):
        x = ZeroPad(((1, 0), (2, 0)), name="pad")(x)
        x = Conv(3, (3, 2), stride=(2, 1), padding="SAME", name="conv1")(x)
        x = Activation("softplus", name="act")(x)
        y = Conv(4, (3, 3), stride=2, padding=1, dilation=1, name="conv2")(x)
        x = Add(name="add")(PadShortcut(4, 2, name="shortcut")(x), y)
        x = Conv(2, (2, 3), padding="VALID", dilation=(1, 2), name="conv3")(x)
        x = AvgPool((2, 2), stride=1, padding="SAME", name="pool")(x)
        return Dense(2, name="logits")(GlobalAvgPool(name="mean")(x))


class Twice(nn.Module):
    """One convolution after itself."""

    @nn.compact
    def __call__(self, x, *, train):
        conv = Conv(2, (3, 3), name="conv")
        return conv(conv(x))


MODEL = Odd()
# Of positive weights, so that no two ways from a pixel to a unit cancel.
POSITIVE = jax.tree.map(
    lambda x: jnp.asarray(np.abs(x) + np.float32(0.1)), make_variables(MODEL, SHAPE)
)
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(2, *SHAPE)), jnp.float32)


@pytest.mark.parametrize("layer", ["pad", "conv1", "conv2", "shortcut", "add", "conv3", "pool"])
@pytest.mark.parametrize("position", [(0, 0), (2, 1), (3, 4)])
def test_with_positive_weights_a_unit_sees_all_that_it_can_and_no_more(layer, position):
    box = box_of(theoretical_fields(MODEL, SHAPE)[layer], position, SHAPE)
    seen = measured_field(MODEL, POSITIVE, IMAGES, layer=layer, position=position) > 0
    expected = np.zeros(SHAPE[:2], bool)
    rows, columns = slice(max(box.top, 0), box.bottom), slice(max(box.left, 0), box.right)
    expected[rows, columns] = True
    if layer == "conv3":  # its dilation leaves no holes only where the map before is wide enough
        assert not (seen & ~expected).any()
        hit = np.argwhere(np.asarray(seen))
        inside = np.argwhere(expected)
        np.testing.assert_array_equal(hit.min(0), inside.min(0))
        np.testing.assert_array_equal(hit.max(0), inside.max(0))
    else:
        np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("name", ["resnet20_cifar", "vgg16_cifar"])
def test_what_is_measured_lies_within_what_can_be_seen(name):
    depth = {"depth": 8} if name.startswith("resnet") else {}
    model, shape = small_network(name, **depth), (32, 32, 3)
    variables = make_variables(model, shape)
    images = jax.random.uniform(jax.random.key(1), (1, *shape))
    layer = {"resnet20_cifar": "conv3_1/add", "vgg16_cifar": "conv2_2_relu"}[name]
    box = box_of(theoretical_fields(model, shape)[layer], (8, 8), shape)
    seen = np.array(jax.jit(partial(measured_field, model, layer=layer))(variables, images))
    assert seen.max() > 0
    seen[max(box.top, 0) : box.bottom, max(box.left, 0) : box.right] = 0
    assert seen.max() == 0


def test_behind_global_pooling_all_is_seen():
    field = theoretical_fields(MODEL, SHAPE)["logits"]
    assert field is None
    assert box_of(field, (0, 0), SHAPE) == Box(0, 0, *SHAPE[:2])
    assert (measured_field(MODEL, POSITIVE, IMAGES, layer="logits") > 0).mean() > 0.8


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="unknown layer 'conv4'"):
        measured_field(MODEL, POSITIVE, IMAGES, layer="conv4")


@pytest.mark.parametrize("position", [(11, 0), (0, -27)])
def test_a_position_that_is_not_there_is_refused(position):
    """XLA would take the nearest one that is."""
    with pytest.raises(InputError, match="of the layer 'conv1' are 11×26: they have no position"):
        measured_field(MODEL, POSITIVE, IMAGES, layer="conv1", position=position)


def test_each_call_of_a_module_has_a_field_of_its_own():
    fields = theoretical_fields(Twice(), SHAPE)
    assert {name: field[0].size for name, field in fields.items()} == {"conv": 3, "conv:2": 5}


def test_branches_are_joined():
    wide, narrow = ReceptiveField(5, 2, -3), ReceptiveField(1, 2, 0)
    assert wide.joined(narrow) == wide == narrow.joined(wide)
    assert ReceptiveField(2, 1, 4).joined(ReceptiveField(2, 1, 0)) == ReceptiveField(6, 1, 0)
