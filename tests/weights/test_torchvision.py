import jax
import numpy as np
import pytest

from cnn_jax.errors import InputError
from cnn_jax.models.registry import build_model, variable_shapes
from cnn_jax.weights.names import by_name
from cnn_jax.weights.torchvision import match_torchvision
from tests.weights import state_dicts
from tests.weights.arrays import random_arrays

# network and its options, image shape, torchvision's layers
NETWORKS = {
    "vgg11": ("vgg11", {"width": 0.05}, (64, 96, 3), state_dicts.VGG11),
    "vgg11 with batch norm": (
        "vgg11",
        {"width": 0.05, "batch_norm": True},
        (64, 64, 3),
        state_dicts.VGG11_NORM,
    ),
    "alexnet": ("alexnet_owt", {"width": 0.05}, (127, 127, 3), state_dicts.ALEXNET),
    "resnet18": ("resnet18", {"width": 0.1}, (32, 32, 3), state_dicts.resnet((2, 2, 2, 2), 2)),
    "resnet50": ("resnet50", {"width": 0.05}, (32, 32, 3), state_dicts.resnet((3, 4, 6, 3), 3)),
}


def _shapes(name):
    network, options, image_shape, layers = NETWORKS[name]
    return variable_shapes(build_model(network, 7, **options), image_shape), layers


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_array_gets_to_its_place(name, prefix):
    shapes, layers = _shapes(name)
    arrays = random_arrays(shapes)
    theirs = state_dicts.state_dict(layers, arrays)
    shuffled = sorted(theirs, key=lambda key: key[::-1])
    match = match_torchvision({prefix + key: theirs[key] for key in shuffled}, shapes)
    assert jax.tree.structure(match.variables) == jax.tree.structure(shapes)
    found = by_name(match.variables)
    assert found.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(found[key], array)
    assert {pair.ours: pair.shape for pair in match.pairs} == {
        k: a.shape for k, a in arrays.items()
    }
    assert {pair.theirs: pair.ours.rpartition("/")[0] for pair in match.pairs} == layers


def _without(key):
    return lambda theirs: {k: v for k, v in theirs.items() if k != key}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("vgg11", _without("features.3.weight"), "features.3' of bias"),
        ("vgg11", _without("features.3.bias"), "conv2_1/bias is absent in the file"),
        (
            "vgg11",
            lambda theirs: theirs | {"features.30.weight": theirs["features.3.weight"]},
            "they have 9 convolution layers, the network 8",
        ),
        (
            "vgg11",
            lambda theirs: theirs | {"features.0.weight": theirs["features.0.weight"][:, :1]},
            r"conv1_1/kernel is \(3, 3, 1, 3\) in the file and \(3, 3, 3, 3\) in the network",
        ),
        ("vgg11", lambda theirs: theirs | {"aux.weight": np.ones((2, 2))}, "a layer 'aux'"),
        ("vgg11", lambda theirs: {}, "nothing in the file"),
        (
            "resnet18",
            _without("layer2.1.bn2.running_var"),
            "norm2/var is absent in the file",
        ),
        (
            "resnet18",
            lambda theirs: theirs | {"layer5.0.conv1.weight": np.ones((1, 1, 1, 1))},
            "conv6_1/conv1/kernel is .* and absent in the network",
        ),
        ("resnet18", lambda theirs: theirs | {"maxpool2.weight": np.ones(2)}, "'maxpool2'"),
        ("resnet18", lambda theirs: {"backbone.stem.weight": np.ones(2)}, "'backbone.stem'"),
    ],
)
def test_what_does_not_fit_is_named(name, change, message):
    shapes, layers = _shapes(name)
    theirs = change(state_dicts.state_dict(layers, random_arrays(shapes)))
    with pytest.raises(InputError, match=message):
        match_torchvision(theirs, shapes)
