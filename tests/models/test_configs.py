"""Every config of a network is complete, and builds what its note says."""

import dataclasses
import importlib
from functools import cache

import pytest
from PIL import Image

from cnn_jax.config import Augment, Data, Optim, differences
from cnn_jax.config_checks import validate
from cnn_jax.data.datasets import dataset_spec
from cnn_jax.models.registry import build_model, count_parameters, variable_shapes
from experiments import configs

PARAMETERS = {
    "mnist_convnet": 60_874,
    "mnist_convnet_modern": 60_874,
    "lenot_mnist": 61_706,
    "lenot_mnist_modern": 61_706,
    "lenet5_mnist": 61_706,
    "cifar_tutorial": 114_510,
    "cifar_tutorial_small": 415_960,
    "cifar_tutorial_deep": 87_060,
    "fashion_convnet": 6_570,
    "cats_dogs": 5_550_786,
    "cats_dogs_plain": 5_550_786,
    "alexnet_imagenet": 60_965_224,
    "alexnet_one_tower_imagenet": 62_378_344,
    "vgg11_imagenet": 132_863_336,
    "vgg13_imagenet": 133_047_848,
    "vgg16_imagenet": 138_357_544,
    "vgg19_imagenet": 143_667_240,
    "vgg11_bn_imagenet": 132_868_840,
    "vgg13_bn_imagenet": 133_053_736,
    "vgg16_bn_imagenet": 138_365_992,
    "vgg19_bn_imagenet": 143_678_248,
    "vgg_cifar": 14_724_042,
    "resnet18_imagenet": 11_689_512,
    "resnet34_imagenet": 21_797_672,
    "resnet50_imagenet": 25_557_032,
    "resnet101_imagenet": 44_549_160,
    "resnet152_imagenet": 60_192_808,
    "resnet18_cifar": 11_173_962,
    "resnet20_cifar": 269_722,
    "resnet56_cifar": 853_018,
    "resnet110_cifar": 1_727_962,
    "airbench_cifar": 1_971_640,
    "wrn28_10_cifar": 36_479_194,
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder in the form of cats and dogs."""
    folder = tmp_path_factory.mktemp("photographs")
    for part in ("train", "test"):
        for kind in ("cats", "dogs"):
            (folder / part / kind).mkdir(parents=True)
            Image.new("RGB", (160, 155)).save(folder / part / kind / "1.png")
    return str(folder)


@cache
def _spec(name, folder, image_size):
    return dataset_spec(Data(name=name, dir=folder, image_size=image_size))


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_config_builds_its_network(name, photographs):
    config = configs.load(name)
    validate(config)
    data = config.data
    folder = photographs if data.name == "image_folder" else ""
    spec = _spec(data.name, folder, data.image_size)
    model = build_model(num_classes=spec.num_classes, **dataclasses.asdict(config.model))
    params = variable_shapes(model, spec.image_shape)["params"]
    assert count_parameters(params) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_note_has_the_command_and_the_count_or_whose_network_it_is(name):
    module = importlib.import_module(f"experiments.configs.{name}")
    note = " ".join(module.__doc__.split())
    assert f"python -m experiments.train --config={name}" in note
    others = [other for other in PARAMETERS if PARAMETERS[other] == PARAMETERS[name]]
    stated = f"{PARAMETERS[name]:,} parameters"
    assert stated in note or any(other in note for other in others if other != name)


def test_configs_share_no_state():
    first, second = configs.load("lenot_mnist_modern"), configs.load("lenot_mnist_modern")
    first.data.augment.crop_padding = 7
    assert second.data.augment.crop_padding != 7
    assert configs.load("mnist_convnet").data.augment.crop_padding == 0


@pytest.mark.parametrize(("name", "epochs"), [("mnist_convnet", 5), ("lenot_mnist", 10)])
def test_the_published_recipe_is_kerass(name, epochs):
    config = configs.load(name)
    assert config.optim == Optim(
        name="rmsprop", learning_rate=1e-3, decay_rate=0.9, epsilon=1e-7, momentum=0.0
    )
    assert config.train.epochs == configs.load(f"{name}_modern").train.epochs == epochs
    assert (config.data.batch_size, config.data.validation_fraction) == (128, 0.0)
    assert config.data.normalization == "unit"


@pytest.mark.parametrize(
    ("one", "other", "fields"),
    [
        ("mnist_convnet", "lenot_mnist", {"model.name", "train.epochs"}),
        ("vgg16_imagenet", "vgg19_imagenet", {"model.name"}),
        ("resnet50_imagenet", "resnet152_imagenet", {"model.name"}),
        ("vgg_cifar", "resnet18_cifar", {"model.name"}),
    ],
)
def test_members_of_a_family_differ_where_they_should(one, other, fields):
    changed = differences(configs.load(one), configs.load(other)).keys()
    assert changed - {"name"} == fields


def test_plain_cats_and_dogs_change_no_image():
    plain, augmented = configs.load("cats_dogs_plain"), configs.load("cats_dogs")
    assert plain.data.augment == Augment()
    operations = ("border", "flip", "rotation", "shift", "zoom", "brightness")
    changed = differences(plain, augmented).keys() - {"name", "optim.schedule"}
    assert changed == {f"data.augment.{name}" for name in operations}
