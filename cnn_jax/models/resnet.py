"""ResNet for ImageNet and the two forms of it for 32×32 images.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv 1512.03385.
"""

from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float

from cnn_jax.errors import InputError, unknown
from cnn_jax.layers.dropout import Rate
from cnn_jax.models.modules import (
    Activation,
    GlobalAvgPool,
    MaxPool,
    classifier,
    scale_channels,
)
from cnn_jax.models.residual import BasicBlock, Bottleneck, conv_norm, residual_stages

# Table 1: blocks in each of the four stages.
RESNET18 = {"depths": (2, 2, 2, 2), "block": "basic"}
RESNET34 = {"depths": (3, 4, 6, 3), "block": "basic"}
RESNET50 = {"depths": (3, 4, 6, 3), "block": "bottleneck"}
RESNET101 = {"depths": (3, 4, 23, 3), "block": "bottleneck"}
RESNET152 = {"depths": (3, 8, 36, 3), "block": "bottleneck"}

_BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNet(nn.Module):
    """A stem, four stages of residual blocks, global average pooling, the classes.

    The stem is a 7×7 convolution and a 3×3 max pooling, both of stride 2; with `small_images` it
    is a 3×3 convolution of stride 1 alone, the usual change for CIFAR.
    """

    num_classes: int
    depths: Sequence[int]
    block: str
    small_images: bool = False
    width: float = 1.0  # times all channels
    activation: str = "relu"
    kernel_init: str = "he_normal"
    drop_path: Rate | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n classes"]:
        """Returns the logits."""
        if self.block not in _BLOCKS:
            raise unknown("block", self.block, _BLOCKS)
        features = [scale_channels(c, self.width) for c in (64, 128, 256, 512)]
        window, stride = (3, 1) if self.small_images else (7, 2)
        options = {"kernel_init": self.kernel_init, "train": train}
        x = conv_norm(x, "1", features[0], window, stride=stride, **options)
        x = Activation(self.activation, name=f"{self.activation}1")(x)
        if not self.small_images:
            x = MaxPool((3, 3), stride=2, padding=1, name="pool1")(x)
        x = residual_stages(
            x,
            _BLOCKS[self.block],
            depths=self.depths,
            features=features,
            activation=self.activation,
            drop_path=self.drop_path,
            **options,
        )
        x = GlobalAvgPool(name="avg_pool")(x)
        return classifier(x, self.num_classes, **options)


class CifarResNet(nn.Module):
    """Section 4.2's network for CIFAR: 6n + 2 layers in three stages of 16, 32 and 64 channels.

    Shortcuts have no parameters (option A), as in the paper: its table 6 counts 0.27, 0.85 and 1.7
    million parameters at 20, 56 and 110 layers; exactly 269,722, 853,018 and 1,727,962 here, with
    batch norm and the last layer's bias, for ten classes.
    """

    num_classes: int
    depth: int = 20
    width: float = 1.0  # times all channels
    activation: str = "relu"
    kernel_init: str = "he_normal"
    drop_path: Rate | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n classes"]:
        """Returns the logits.

        Raises:
          InputError: the depth is not 6n + 2.
        """
        n = blocks_per_stage(self.depth, extra=2)
        features = [scale_channels(c, self.width) for c in (16, 32, 64)]
        options = {"kernel_init": self.kernel_init, "train": train}
        x = conv_norm(x, "1", features[0], 3, **options)
        x = Activation(self.activation, name=f"{self.activation}1")(x)
        x = residual_stages(
            x,
            BasicBlock,
            depths=(n, n, n),
            features=features,
            shortcut="pad",
            activation=self.activation,
            drop_path=self.drop_path,
            **options,
        )
        x = GlobalAvgPool(name="avg_pool")(x)
        return classifier(x, self.num_classes, **options)


def blocks_per_stage(depth: int, *, extra: int) -> int:
    """Returns n of a network of three stages of two-layer blocks, 6n + extra layers in all.

    Raises:
      InputError: no n gives that depth.

    >>> from cnn_jax.models.resnet import blocks_per_stage
    >>> blocks_per_stage(20, extra=2), blocks_per_stage(28, extra=4)
    (3, 4)
    """
    n, rest = divmod(depth - extra, 6)
    if n < 1 or rest:
        near = 6 * max(1, n) + extra
        raise InputError(
            f"model.depth is {depth}; this network has 6n + {extra} layers, such as {near} or "
            f"{near + 6}"
        )
    return n
