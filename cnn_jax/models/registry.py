"""From a name and a few options to a network. A new network is one file and one line here."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key, PyTree

from cnn_jax.errors import InputError, unknown
from cnn_jax.layers import ACTIVATIONS, INITIALIZERS
from cnn_jax.models.airbench import Airbench
from cnn_jax.models.alexnet import ONE_WEIRD_TRICK, AlexNet
from cnn_jax.models.lenet import LeNet, LeNet5, LeNetSame
from cnn_jax.models.modules import POOLING, SingleLogit
from cnn_jax.models.resnet import (
    RESNET18,
    RESNET34,
    RESNET50,
    RESNET101,
    RESNET152,
    CifarResNet,
    ResNet,
)
from cnn_jax.models.tutorial import (
    CatsDogs,
    CifarTutorial,
    CifarTutorialDeep,
    CifarTutorialSmall,
    FashionConvNet,
    MnistConvNet,
)
from cnn_jax.models.vgg import VGG, VGG11, VGG13, VGG16, VGG19
from cnn_jax.models.wide_resnet import WideResNet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "mnist_convnet": MnistConvNet,
    "lenet": LeNet,
    "lenet5": LeNet5,
    "lenet_same": LeNetSame,
    "cifar_tutorial": CifarTutorial,
    "cifar_tutorial_small": CifarTutorialSmall,
    "cifar_tutorial_deep": CifarTutorialDeep,
    "fashion_convnet": FashionConvNet,
    "cats_dogs": CatsDogs,
    "alexnet": AlexNet,
    "alexnet_one_tower": partial(AlexNet, towers=1),
    "alexnet_owt": partial(AlexNet, **ONE_WEIRD_TRICK),
    "vgg11": partial(VGG, depths=VGG11),
    "vgg13": partial(VGG, depths=VGG13),
    "vgg16": partial(VGG, depths=VGG16),
    "vgg19": partial(VGG, depths=VGG19),
    "vgg16_cifar": partial(VGG, depths=VGG16, hidden=(), batch_norm=True, use_bias=False),
    "resnet18": partial(ResNet, **RESNET18),
    "resnet34": partial(ResNet, **RESNET34),
    "resnet50": partial(ResNet, **RESNET50),
    "resnet101": partial(ResNet, **RESNET101),
    "resnet152": partial(ResNet, **RESNET152),
    "resnet18_cifar": partial(ResNet, **RESNET18, small_images=True),
    "resnet20_cifar": partial(CifarResNet, depth=20),
    "resnet56_cifar": partial(CifarResNet, depth=56),
    "resnet110_cifar": partial(CifarResNet, depth=110),
    "airbench": Airbench,
    "wrn28_10": partial(WideResNet, depth=28, width=10.0),
}

_NAMED_OPTIONS = {"activation": ACTIVATIONS, "pooling": POOLING, "kernel_init": INITIALIZERS}


def build_model(
    name: str, num_classes: int, *, single_logit: bool = False, **options: Any
) -> nn.Module:
    """Returns the network called `name`; options that are None keep the network's default.

    With `single_logit` two classes get one logit between them, see `modules.SingleLogit`.

    Raises:
      InputError: no such network, the network has no such option, or the option has no such value.

    >>> build_model("lenet", 10, activation="tanh").activation
    'tanh'
    """
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    if num_classes < 1:
        raise InputError(f"a network needs at least one class, not {num_classes}")
    known = _options(NETWORKS[name])
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        if key not in known:
            raise unknown(f"option of the network {name}", key, known)
        if key in _NAMED_OPTIONS and value not in _NAMED_OPTIONS[key]:
            raise unknown(key, value, _NAMED_OPTIONS[key])
    if single_logit:
        return SingleLogit(NETWORKS[name](num_classes=1, **given))
    return NETWORKS[name](num_classes=num_classes, **given)


def _options(network: Callable[..., nn.Module]) -> set[str]:
    module = network.func if isinstance(network, partial) else network
    return {f.name for f in dataclasses.fields(module)} - {"num_classes", "parent", "name"}


def variable_shapes(model: nn.Module, image_shape: tuple[int, int, int]) -> PyTree:
    """Returns the shapes of the model's variables without computing or allocating any.

    Raises:
      InputError: the images are too small for the network; says at which layer.
    """
    with nn.intercept_methods(_name_failing_layer(image_shape)):
        return jax.eval_shape(partial(_initialize, model, image_shape), jax.random.key(0))


def initialize(
    key: Key[Array, ""], *, model: nn.Module, image_shape: tuple[int, int, int]
) -> PyTree:
    """Returns the model's variables: `params`, and `batch_stats` where it has batch norm."""
    return jax.jit(partial(_initialize, model, image_shape))(key)


def parameters_from_images(model: nn.Module) -> Callable[[Array], PyTree] | None:
    """Returns from_images(images) of a network that has one: parameters computed and not drawn.

    The images are those of the training split, as the network is given them; the result is the
    part of `params` that they determine. `Airbench` has one.
    """
    return getattr(_network(model), "from_images", None)


def seen_part(model: nn.Module, images: Float[Array, "n *size c"]) -> Float[Array, "n *seen c"]:
    """Returns the images without the last rows and columns that no logit depends on.

    The logits are the same, and less is computed. A network without a method `seen`, which may be
    of other arrays than images, gets them whole.

    >>> seen_part(build_model("mnist_convnet", 10), jnp.ones((1, 28, 28, 1))).shape
    (1, 26, 26, 1)
    """
    seen = getattr(_network(model), "seen", None)
    if seen is None:
        return images
    return images[:, : seen(images.shape[1]), : seen(images.shape[2])]


def _network(model: nn.Module) -> nn.Module:
    return model.network if isinstance(model, SingleLogit) else model


def _initialize(model: nn.Module, image_shape: tuple[int, int, int], key: jax.Array) -> PyTree:
    return model.init(key, jnp.zeros((1, *image_shape)), train=False)


def _name_failing_layer(image_shape: tuple[int, int, int]) -> Callable:
    def interceptor(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except InputError:
            raise
        except ValueError as error:
            layer = "/".join(context.module.path) or type(context.module).__name__
            size = "×".join(map(str, image_shape))
            raise InputError(
                f"images of {size} do not suit the network: {layer}: {error}"
            ) from error

    return interceptor


def count_parameters(params: PyTree) -> int:
    """Returns how many numbers a tree of arrays or shapes holds.

    >>> count_parameters({"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)})
    8
    """
    return sum(leaf.size for leaf in jax.tree.leaves(params))
