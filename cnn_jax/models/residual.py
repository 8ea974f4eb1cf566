"""Residual blocks and stages, shared by the ResNets.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv 1512.03385.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnn_jax.layers.dropout import Rate
from cnn_jax.models.modules import Activation, Add, BatchNorm, Conv, DropPath

Images = Float[Array, "n h w c"]


class PadShortcut(nn.Module):
    """The shortcut without parameters, option A: every stride-th pixel, new channels zero."""

    features: int
    stride: int

    def __call__(self, x: Images) -> Float[Array, "n oh ow features"]:
        """Subsamples and pads."""
        x = x[:, :: self.stride, :: self.stride]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.features - x.shape[-1])))


def padded_conv(
    x: Images, name: str, features: int, window: int, *, stride: int = 1, kernel_init: str
) -> Float[Array, "n oh ow features"]:
    """Applies a convolution without bias inside a compact call.

    Zeros pad all sides equally, whatever the stride ("SAME" would not).
    """
    return Conv(
        features,
        (window, window),
        stride=stride,
        padding=window // 2,
        use_bias=False,
        kernel_init=kernel_init,
        name=name,
    )(x)


def conv_norm(
    x: Images,
    suffix: str,
    features: int,
    window: int,
    *,
    stride: int = 1,
    kernel_init: str,
    train: bool,
) -> Float[Array, "n oh ow features"]:
    """Applies `padded_conv`, `conv{suffix}`, and batch norm, `norm{suffix}`."""
    options = {"stride": stride, "kernel_init": kernel_init}
    x = padded_conv(x, f"conv{suffix}", features, window, **options)
    return BatchNorm(name=f"norm{suffix}")(x, train=train)


class ResidualBlock(nn.Module):
    """What both kinds of block share: the activation of x + branch(x).

    Where the shape changes the shortcut is a 1×1 convolution with batch norm (`projection`,
    option B) or `PadShortcut` (`pad`, option A).
    """

    is_block: ClassVar[bool] = True  # to be rematerialised as one

    features: int
    stride: int = 1
    shortcut: str = "projection"
    activation: str = "relu"
    kernel_init: str = "he_normal"
    drop_path: Rate | None = None

    def activate(self, x: Images, suffix: str = "") -> Images:
        """Applies the activation."""
        return Activation(self.activation, name=f"{self.activation}{suffix}")(x)

    def add_shortcut(
        self, x: Images, y: Float[Array, "n oh ow d"], *, train: bool
    ) -> Float[Array, "n oh ow d"]:
        """Returns the activation of shortcut(x) + y, y being the branch's output."""
        if x.shape != y.shape and self.shortcut == "pad":
            x = PadShortcut(y.shape[-1], self.stride, name="shortcut")(x)
        elif x.shape != y.shape:
            options = {"stride": self.stride, "kernel_init": self.kernel_init, "train": train}
            x = conv_norm(x, "_shortcut", y.shape[-1], 1, **options)
        if self.drop_path is not None:
            y = DropPath(self.drop_path, name="drop_path")(y, train=train)
        return self.activate(Add(name="add")(x, y))


class BasicBlock(ResidualBlock):
    """Two convolutions of 3×3."""

    @nn.compact
    def __call__(self, x: Images, *, train: bool) -> Float[Array, "n oh ow d"]:
        """Applies the block."""
        layer = partial(conv_norm, kernel_init=self.kernel_init, train=train)
        y = layer(x, "1", self.features, 3, stride=self.stride)
        y = layer(self.activate(y, "1"), "2", self.features, 3)
        return self.add_shortcut(x, y, train=train)


class Bottleneck(ResidualBlock):
    """1×1 down, 3×3, 1×1 up to four times the features.

    The stride is in the 3×3 convolution, which is more accurate than the paper's place for it, the
    first 1×1; the difference is often called ResNet v1.5.
    """

    @nn.compact
    def __call__(self, x: Images, *, train: bool) -> Float[Array, "n oh ow d"]:
        """Applies the block."""
        layer = partial(conv_norm, kernel_init=self.kernel_init, train=train)
        y = layer(x, "1", self.features, 1)
        y = layer(self.activate(y, "1"), "2", self.features, 3, stride=self.stride)
        y = layer(self.activate(y, "2"), "3", 4 * self.features, 1)
        return self.add_shortcut(x, y, train=train)


def residual_stages(
    x: Images,
    block: type[nn.Module],
    *,
    depths: Sequence[int],
    features: Sequence[int],
    drop_path: Rate | None,
    train: bool,
    **options: object,
) -> Float[Array, "n oh ow d"]:
    """Applies stages of blocks inside a network's compact call.

    The first block of each stage but the first has stride 2. Blocks are `conv2_1`, `conv2_2` ...
    as in the paper's table 1. The rate of stochastic depth grows linearly from nothing at the
    input to `drop_path` at the last block (arXiv 1603.09382).
    """
    make, total, index = partial(block, **options), sum(depths), 0
    for stage, (depth, channels) in enumerate(zip(depths, features, strict=True)):
        for i in range(depth):
            index += 1
            stride = 2 if stage and i == 0 else 1
            rate = None if drop_path is None else drop_path * (index / total)
            name = f"conv{stage + 2}_{i + 1}"
            x = make(channels, stride=stride, drop_path=rate, name=name)(x, train=train)
    return x
