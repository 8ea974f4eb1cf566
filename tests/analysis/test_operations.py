"""The list of operations describes a network in full: run one by one they give its logits."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from cnn_jax.analysis.operations import operations
from cnn_jax.errors import InputError
from cnn_jax.models.modules import Activation, BatchNorm, Conv, Dropout, DropPath, Flatten
from cnn_jax.models.registry import build_model
from tests.models.networks import make_images, make_variables, small_network, small_shape

WITH_TRAIN = BatchNorm | Dropout | DropPath


def _at(tree, name):
    for key in name.split("/"):
        tree = tree.get(key, {})
    return tree


def _logits(found, variables, images):
    values = [images]
    for each in found:
        weights = {kind: _at(tree, each.name) for kind, tree in variables.items()}
        options = {"train": False} if isinstance(each.module, WITH_TRAIN) else {}
        values.append(each.module.apply(weights, *[values[i] for i in each.inputs], **options))
        assert values[-1].shape[1:] == each.output_shape
    return values[-1]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("alexnet", {}),
        ("resnet20_cifar", {"depth": 8, "width": 0.25, "drop_path": 0.5}),
        ("wrn28_10", {"depth": 10, "width": 0.5, "dropout": 0.5}),
    ],
)
def test_one_by_one_they_give_the_logits(name, options):
    model, shape = small_network(name, **options), small_shape(name)
    variables, images = make_variables(model, shape), make_images(shape)
    found = operations(model, shape)
    expected = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    logits = jax.jit(lambda v, x: _logits(found, v, x))(variables, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


class Fork(nn.Module):
    """A value that is used before and behind the dropout that passes it on; and a bare sum."""

    @nn.compact
    def __call__(self, x, *, train):
        x = Conv(2, (1, 1), name="stem")(x)
        y = Dropout(0.5, name="dropout")(x, train=train)
        left, right = Activation("relu", name="left")(x), Activation("tanh", name="right")(y)
        return Flatten(name="flatten")(left + right)


def test_inputs_are_the_numbers_of_what_was_returned_before():
    found = operations(Fork(), (2, 2, 1))
    assert {each.name: each.inputs for each in found} == {
        "stem": (0,),
        "dropout": (1,),
        "left": (1,),
        "right": (2,),
        "flatten": (None,),
    }
    assert (found[0].input_shape, found[-1].output_shape) == ((2, 2, 1), (8,))


def test_a_residual_sum_has_two_inputs():
    found = operations(build_model("resnet18_cifar", 10), (32, 32, 3))
    names = ["", *(each.name for each in found)]
    inputs = {each.name: [names[i] for i in each.inputs] for each in found}
    assert inputs["conv2_1/add"] == ["relu1", "conv2_1/norm2"]
    assert inputs["conv3_1/conv_shortcut"] == ["conv2_2/relu"] == inputs["conv3_1/conv1"]
    assert inputs["conv3_1/add"] == ["conv3_1/norm_shortcut", "conv3_1/norm2"]


def test_images_too_small_are_refused():
    with pytest.raises(InputError, match="pool5"):
        operations(build_model("vgg16", 10), (16, 16, 3))
