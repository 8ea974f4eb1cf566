import jax
import pytest

from cnn_jax.errors import InputError
from cnn_jax.models.alexnet import AlexNet
from cnn_jax.models.registry import (
    NETWORKS,
    build_model,
    count_parameters,
    initialize,
    variable_shapes,
)
from cnn_jax.models.resnet import ResNet
from cnn_jax.models.tutorial import MnistConvNet

# name: image shape, classes, parameters
PARAMETERS = {
    "mnist_convnet": ((28, 28, 1), 10, 60_874),
    "lenet": ((28, 28, 1), 10, 61_706),
    "lenet5": ((28, 28, 1), 10, 61_706),
    "lenet_same": ((8, 8, 1), 10, 21_386),
    "cifar_tutorial": ((32, 32, 3), 10, 114_510),
    "cifar_tutorial_small": ((32, 32, 3), 10, 415_960),
    "cifar_tutorial_deep": ((32, 32, 3), 10, 87_060),
    "fashion_convnet": ((28, 28, 1), 10, 6_570),
    "cats_dogs": ((150, 150, 3), 2, 5_550_786),
    "alexnet": ((227, 227, 3), 1000, 60_965_224),
    "alexnet_one_tower": ((227, 227, 3), 1000, 62_378_344),
    "alexnet_owt": ((224, 224, 3), 1000, 61_100_840),
    "vgg11": ((224, 224, 3), 1000, 132_863_336),
    "vgg13": ((224, 224, 3), 1000, 133_047_848),
    "vgg16": ((224, 224, 3), 1000, 138_357_544),
    "vgg19": ((224, 224, 3), 1000, 143_667_240),
    "vgg16_cifar": ((32, 32, 3), 10, 14_724_042),
    "resnet18": ((224, 224, 3), 1000, 11_689_512),
    "resnet34": ((224, 224, 3), 1000, 21_797_672),
    "resnet50": ((224, 224, 3), 1000, 25_557_032),
    "resnet101": ((224, 224, 3), 1000, 44_549_160),
    "resnet152": ((224, 224, 3), 1000, 60_192_808),
    "resnet18_cifar": ((32, 32, 3), 10, 11_173_962),
    "resnet20_cifar": ((32, 32, 3), 10, 269_722),
    "resnet56_cifar": ((32, 32, 3), 10, 853_018),
    "resnet110_cifar": ((32, 32, 3), 10, 1_727_962),
    "airbench": ((32, 32, 3), 10, 1_971_640),
    "wrn28_10": ((32, 32, 3), 10, 36_479_194),
}

BY_LAYER = {
    "mnist_convnet": [160, 4_640, 18_496, 36_928, 650],
    "lenet": [156, 2_416, 48_120, 10_164, 850],
    "lenet5": [156, 2_416, 48_120, 10_164, 850],
    "cifar_tutorial": [1_400, 22_550, 90_050, 510],
    "cifar_tutorial_small": [1_400, 22_550, 392_010],
    "cifar_tutorial_deep": [1_400, 22_550, 22_550, 40_050, 510],
    "fashion_convnet": [200, 6_280, 90],
    "cats_dogs": [896, 18_496, 73_856, 147_584, 5_308_928, 1_026],
}


def _layer_names(name):
    network = NETWORKS[name].keywords
    convolutions = [f"conv{i + 1}" for i in range(len(network["features"]))]
    hidden = [f"dense{i + 1}" for i in range(len(network.get("hidden", ())))]
    return [*convolutions, *hidden, "logits"]


def test_every_network_has_a_stated_count():
    assert PARAMETERS.keys() == NETWORKS.keys()


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_exact(name):
    shape, classes, parameters = PARAMETERS[name]
    variables = variable_shapes(build_model(name, classes), shape)
    assert count_parameters(variables["params"]) == parameters


@pytest.mark.parametrize("name", BY_LAYER)
def test_parameters_are_exact_layer_by_layer(name):
    shape, classes, _ = PARAMETERS[name]
    params = variable_shapes(build_model(name, classes), shape)["params"]
    counts = {layer: count_parameters(leaves) for layer, leaves in params.items()}
    assert counts == dict(zip(_layer_names(name), BY_LAYER[name], strict=True))


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("vgg11", {"batch_norm": True}, 132_868_840),
        ("vgg13", {"batch_norm": True}, 133_053_736),
        ("vgg16", {"batch_norm": True}, 138_365_992),
        ("vgg19", {"batch_norm": True}, 143_678_248),
        ("vgg16_cifar", {"use_bias": True}, 14_728_266),
        ("resnet20_cifar", {"depth": 32}, 464_154),
        ("wrn28_10", {"depth": 16, "width": 8.0}, 10_961_370),
    ],
)
def test_options_change_the_count(name, options, parameters):
    shape, classes, _ = PARAMETERS[name]
    variables = variable_shapes(build_model(name, classes, **options), shape)
    assert count_parameters(variables["params"]) == parameters


def test_running_statistics_are_no_parameters():
    variables = variable_shapes(build_model("resnet18", 1000), (224, 224, 3))
    assert count_parameters(variables["batch_stats"]) == 9_600


def test_options_left_at_none_keep_the_networks_default():
    model = build_model("lenet5", 10, activation=None, pooling=None, dropout=None, depth=None)
    assert (model.activation, model.pooling, model.dropout) == ("tanh", "avg", None)


def test_initialize_gives_the_stated_shapes():
    model = build_model("resnet20_cifar", 10, depth=8)
    shapes = variable_shapes(model, (8, 8, 3))
    variables = initialize(jax.random.key(0), model=model, image_shape=(8, 8, 3))
    assert jax.tree.map(lambda a: (a.shape, a.dtype), variables) == jax.tree.map(
        lambda a: (a.shape, a.dtype), shapes
    )


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("lennet", 10), {}, "unknown network 'lennet'; did you mean 'lenet'?"),
        (("lenet", 0), {}, "at least one class, not 0"),
        (("lenet", 10), {"depth": 3}, "unknown option of the network lenet 'depth'"),
        (("lenet", 10), {"activation": "rleu"}, "unknown activation 'rleu'; did you mean 'relu'"),
        (("lenet", 10), {"pooling": "mean"}, "unknown pooling 'mean'"),
        (("vgg16", 10), {"kernel_init": "he"}, "unknown kernel_init 'he'"),
    ],
)
def test_wrong_input_names_what_would_be_right(arguments, options, message):
    with pytest.raises(InputError) as error:
        build_model(*arguments, **options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ResNet(10, (1, 1, 1, 1), "basc"), "unknown block 'basc'; did you mean 'basic'?"),
        (MnistConvNet(10, pooling="mean"), "unknown pooling 'mean'. Known: avg, max"),
        (MnistConvNet(10, activation="rleu"), "unknown activation 'rleu'; did you mean 'relu'?"),
        (AlexNet(10, towers=0), "at least one tower, not 0"),
    ],
)
def test_wrong_options_of_a_class_name_what_would_be_right(model, message):
    with pytest.raises(InputError) as error:
        variable_shapes(model, (227, 227, 3))
    assert message in str(error.value)


@pytest.mark.parametrize("name", NETWORKS)
def test_images_without_channels_are_refused(name):
    *size, _ = PARAMETERS[name][0]
    with pytest.raises(InputError, match=r"×0 do not suit .*: there are no channels to convolve"):
        variable_shapes(build_model(name, 10), (*size, 0))


@pytest.mark.parametrize(
    ("name", "depth", "near"),
    [("resnet20_cifar", 21, "20 or 26"), ("resnet20_cifar", 2, "8 or 14"), ("wrn28_10", 27, "22")],
)
def test_a_depth_that_no_network_has_names_the_nearest(name, depth, near):
    with pytest.raises(InputError, match=f"model.depth is {depth}.*{near}"):
        variable_shapes(build_model(name, 10, depth=depth), (32, 32, 3))


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("mnist_convnet", 9, "pool2"),
        ("mnist_convnet", 17, "conv3"),
        ("lenet", 11, "pool2"),
        ("lenet_same", 3, "pool2"),
        ("cifar_tutorial_small", 4, "conv2"),
        ("fashion_convnet", 1, "pool1"),
        ("cats_dogs", 15, "pool4"),
        ("alexnet", 10, "conv1"),
        ("alexnet", 66, "pool5"),
        ("vgg19", 31, "pool5"),
    ],
)
def test_an_image_too_small_names_the_layer(name, size, layer):
    channels = PARAMETERS[name][0][-1]
    with pytest.raises(InputError, match=f"images of {size}×{size}×{channels} .*: {layer}: "):
        variable_shapes(build_model(name, 10), (size, size, channels))
