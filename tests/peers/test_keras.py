"""The tutorial networks, VGG and ResNets against Keras layers, built from the descriptions."""

import pytest

from cnn_jax.models.registry import build_model
from tests.peers.comparison import check_logits, import_peer

keras = import_peer("keras")
layers = keras.layers


def _tutorial(*parts):
    """Returns a chain from ("conv", kernels, window), "pool" and ("dense", features), with relu."""

    def build(x, conv=layers.Conv2D, activation="relu", pool=layers.MaxPooling2D, same=False):
        convolutions = hidden = 0
        for part in parts:
            if part == "pool":
                x = pool(2)(x)
            elif part == "flatten":
                x = layers.Flatten()(x)
            elif part[0] == "conv":
                convolutions += 1
                options = {"padding": "same" if same else "valid", "activation": activation}
                x = conv(*part[1:], name=f"conv{convolutions}", **options)(x)
            else:
                hidden += 1
                x = layers.Dense(part[1], activation=activation, name=f"dense{hidden}")(x)
        return layers.Dense(10, name="logits")(x)

    return build


MNIST = _tutorial(
    ("conv", 16, 3), "pool", ("conv", 32, 3), "pool", ("conv", 64, 3), "flatten", ("dense", 64)
)
LENET = _tutorial(
    ("conv", 6, 5), "pool", ("conv", 16, 5), "pool", "flatten", ("dense", 120), ("dense", 84)
)
CIFAR = _tutorial(("conv", 50, 3), "pool", ("conv", 50, 3), "pool", "flatten", ("dense", 50))
CIFAR_SMALL = _tutorial(("conv", 50, 3), ("conv", 50, 3), "flatten")
CIFAR_DEEP = _tutorial(
    ("conv", 50, 3), "pool", ("conv", 50, 3), "pool", ("conv", 50, 3), "flatten", ("dense", 50)
)
FASHION = _tutorial(("conv", 4, 7), "pool", "flatten", ("dense", 8))
CATS_DOGS = _tutorial(
    *[part for kernels in (32, 64, 128, 128) for part in (("conv", kernels, 3), "pool")],
    "flatten",
    ("dense", 512),
)


def _lenet5(x):
    x = layers.ZeroPadding2D(2)(x)
    return LENET(x, activation="tanh", pool=layers.AveragePooling2D)


def _vgg(column, *, hidden=(4096, 4096), batch_norm=False, use_bias=True):
    """Returns a column of the paper's table 1: kernels of each convolution, block by block."""

    def build(x):
        for block, kernels in enumerate(column, start=1):
            for i, filters in enumerate(kernels, start=1):
                name = f"conv{block}_{i}"
                x = layers.Conv2D(filters, 3, padding="same", use_bias=use_bias, name=name)(x)
                if batch_norm:
                    x = layers.BatchNormalization(epsilon=1e-5, name=f"{name}_norm")(x)
                x = layers.ReLU()(x)
            x = layers.MaxPooling2D(2)(x)
        x = layers.Flatten()(x)
        for i, features in enumerate(hidden, start=1):
            x = layers.Dense(features, activation="relu", name=f"dense{i}")(x)
            x = layers.Dropout(0.5)(x)
        return layers.Dense(10, name="logits")(x)

    return build


A = [[64], [128], [256] * 2, [512] * 2, [512] * 2]
B = [[64] * 2, [128] * 2, [256] * 2, [512] * 2, [512] * 2]
D = [[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3]
E = [[64] * 2, [128] * 2, [256] * 4, [512] * 4, [512] * 4]


def _conv(x, filters, window, stride, name):
    if window > 1:  # Keras's "same" would pad one side alone at stride 2
        x = layers.ZeroPadding2D(window // 2)(x)
    return layers.Conv2D(filters, window, strides=stride, use_bias=False, name=name)(x)


def _norm(x, name):
    return layers.BatchNormalization(epsilon=1e-5, name=name)(x)


def _conv_norm(x, filters, window, stride, prefix, suffix):
    x = _conv(x, filters, window, stride, f"{prefix}conv{suffix}")
    return _norm(x, f"{prefix}norm{suffix}")


def _projection(x, filters, stride, prefix):
    if x.shape[-1] == filters and stride == 1:
        return x
    return _conv_norm(x, filters, 1, stride, prefix, "_shortcut")


def _zeros(x, filters, stride, prefix):
    del prefix
    x = layers.AveragePooling2D(1, strides=stride)(x)
    missing = filters - x.shape[-1]
    return keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, missing]]) if missing else x


def _basic(x, filters, stride, prefix, shortcut):
    y = layers.ReLU()(_conv_norm(x, filters, 3, stride, prefix, 1))
    y = _conv_norm(y, filters, 3, 1, prefix, 2)
    return layers.ReLU()(layers.Add()([shortcut(x, filters, stride, prefix), y]))


def _bottleneck(x, filters, stride, prefix, shortcut):
    y = layers.ReLU()(_conv_norm(x, filters, 1, 1, prefix, 1))
    y = layers.ReLU()(_conv_norm(y, filters, 3, stride, prefix, 2))
    y = _conv_norm(y, 4 * filters, 1, 1, prefix, 3)
    return layers.ReLU()(layers.Add()([shortcut(x, 4 * filters, stride, prefix), y]))


def _pre_activation(x, filters, stride, prefix, shortcut):
    del shortcut
    y = layers.ReLU()(_norm(x, f"{prefix}norm1"))
    if x.shape[-1] != filters or stride > 1:
        x = _conv(y, filters, 1, stride, f"{prefix}conv_shortcut")
    y = _conv(y, filters, 3, stride, f"{prefix}conv1")
    y = layers.ReLU()(_norm(y, f"{prefix}norm2"))
    return layers.Add()([x, _conv(y, filters, 3, 1, f"{prefix}conv2")])


def _stages(x, block, depths, filters, shortcut=_projection):
    for stage, (depth, channels) in enumerate(zip(depths, filters, strict=True)):
        for i in range(depth):
            stride = 2 if i == 0 and stage > 0 else 1
            x = block(x, channels, stride, f"conv{stage + 2}_{i + 1}_", shortcut)
    return x


def _resnet(block, depths):
    def build(x):
        x = layers.ReLU()(_conv_norm(x, 64, 7, 2, "", 1))
        x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
        x = _stages(x, block, depths, (64, 128, 256, 512))
        return layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D()(x))

    return build


def _cifar_resnet(depths, filters, shortcut):
    def build(x):
        x = layers.ReLU()(_conv_norm(x, filters[0], 3, 1, "", 1))
        x = _stages(x, _basic, depths, filters, shortcut)
        return layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D()(x))

    return build


def _wide_resnet(x):
    x = _conv(x, 16, 3, 1, "conv1")
    x = _stages(x, _pre_activation, (4, 4, 4), (32, 64, 128))
    x = layers.ReLU()(_norm(x, "norm_last"))
    return layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D()(x))


def _airbench(x):
    x = layers.Activation("gelu")(layers.Conv2D(24, 2, name="whiten")(x))
    for block, filters in enumerate((64, 256, 256), start=1):
        for i in (1, 2):
            name = f"conv{block}_{i}"
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
            x = layers.MaxPooling2D(2)(x) if i == 1 else x
            norm = {"epsilon": 1e-12, "scale": False, "name": f"{name}_norm"}
            x = layers.Activation("gelu")(layers.BatchNormalization(**norm)(x))
    x = layers.Flatten()(layers.MaxPooling2D(3)(x))
    return layers.Dense(10, use_bias=False, name="logits")(x)


# network: size, channels, Keras's form, options of ours
NETWORKS = {
    "mnist_convnet": (28, 1, MNIST, {}),
    "lenet": (28, 1, lambda x: LENET(layers.ZeroPadding2D(2)(x)), {}),
    "lenet5": (28, 1, _lenet5, {}),
    "lenet_same": (8, 1, lambda x: LENET(x, same=True), {}),
    "cifar_tutorial": (32, 3, CIFAR, {}),
    "cifar_tutorial_small": (32, 3, CIFAR_SMALL, {}),
    "cifar_tutorial_deep": (32, 3, CIFAR_DEEP, {}),
    "fashion_convnet": (28, 1, lambda x: FASHION(x, same=True), {}),
    "cats_dogs": (150, 3, lambda x: CATS_DOGS(x, same=True), {}),
    "vgg11": (64, 3, _vgg(A), {}),
    "vgg13": (64, 3, _vgg(B), {}),
    "vgg16": (64, 3, _vgg(D), {}),
    "vgg19": (64, 3, _vgg(E), {}),
    "vgg16 with batch norm": (64, 3, _vgg(D, batch_norm=True), {"batch_norm": True}),
    "vgg16_cifar": (32, 3, _vgg(D, hidden=(), batch_norm=True, use_bias=False), {}),
    "resnet18": (64, 3, _resnet(_basic, (2, 2, 2, 2)), {}),
    "resnet34": (64, 3, _resnet(_basic, (3, 4, 6, 3)), {}),
    "resnet50": (65, 3, _resnet(_bottleneck, (3, 4, 6, 3)), {}),
    "resnet101": (64, 3, _resnet(_bottleneck, (3, 4, 23, 3)), {}),
    "resnet152": (64, 3, _resnet(_bottleneck, (3, 8, 36, 3)), {}),
    "resnet18_cifar": (
        32,
        3,
        _cifar_resnet((2, 2, 2, 2), (64, 128, 256, 512), _projection),
        {},
    ),
    "resnet20_cifar": (32, 3, _cifar_resnet((3, 3, 3), (16, 32, 64), _zeros), {}),
    "resnet56_cifar": (32, 3, _cifar_resnet((9, 9, 9), (16, 32, 64), _zeros), {}),
    "resnet110_cifar": (32, 3, _cifar_resnet((18, 18, 18), (16, 32, 64), _zeros), {}),
    "airbench": (32, 3, _airbench, {}),
    "wrn28_10": (32, 3, _wide_resnet, {"width": 2.0}),
}


def _logits(build, shape, weights, images):
    inputs = keras.Input(shape)
    network = keras.Model(inputs, build(inputs))
    with_weights = [layer for layer in network.layers if layer.weights]
    assert {layer.name for layer in with_weights} == weights.keys()
    order = ("kernel", "scale", "bias", "mean", "var")
    for layer in with_weights:
        ours = weights[layer.name]
        layer.set_weights([ours[name] for name in order if name in ours])
    outputs = network(images, training=False)
    return keras.ops.convert_to_numpy(keras.ops.stop_gradient(outputs))


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_kerass(name):
    size, channels, build, options = NETWORKS[name]
    shape = (size, size, channels)
    check_logits(
        name,
        build_model(name.split()[0], 10, **options),
        shape,
        lambda weights, images: _logits(build, shape, weights, images),
    )
