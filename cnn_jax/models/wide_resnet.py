"""WideResNet: few residual blocks with many channels, for 32×32 images.

Zagoruyko, Komodakis: Wide Residual Networks, arXiv 1605.07146. Blocks are pre-activated
(arXiv 1603.05027): norm and activation come before each convolution, nothing after the sum.
"""

from functools import partial
from typing import ClassVar

from flax import linen as nn
from jaxtyping import Array, Float

from cnn_jax.layers.dropout import Rate
from cnn_jax.models.modules import (
    Activation,
    Add,
    BatchNorm,
    Dropout,
    DropPath,
    GlobalAvgPool,
    classifier,
    scale_channels,
)
from cnn_jax.models.residual import Images, padded_conv, residual_stages
from cnn_jax.models.resnet import blocks_per_stage


class PreActivationBlock(nn.Module):
    """Two 3×3 convolutions, the paper's B(3, 3), with dropout between them unless it is None.

    Where the shape changes the shortcut is a 1×1 convolution of the pre-activated input.
    """

    is_block: ClassVar[bool] = True  # to be rematerialised as one

    features: int
    stride: int = 1
    activation: str = "relu"
    dropout: Rate | None = None
    kernel_init: str = "he_normal"
    drop_path: Rate | None = None

    @nn.compact
    def __call__(self, x: Images, *, train: bool) -> Float[Array, "n oh ow features"]:
        """Applies the block."""
        conv = partial(padded_conv, kernel_init=self.kernel_init)
        y = _norm_and_activation(x, self.activation, "1", train)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = conv(y, "conv_shortcut", self.features, 1, stride=self.stride)
        y = conv(y, "conv1", self.features, 3, stride=self.stride)
        y = _norm_and_activation(y, self.activation, "2", train)
        if self.dropout is not None:
            y = Dropout(self.dropout, name="dropout")(y, train=train)
        y = conv(y, "conv2", self.features, 3)
        if self.drop_path is not None:
            y = DropPath(self.drop_path, name="drop_path")(y, train=train)
        return Add(name="add")(x, y)


class WideResNet(nn.Module):
    """WRN-depth-width: 6n + 4 layers in three stages of 16, 32 and 64 times `width` channels."""

    num_classes: int
    depth: int = 28
    width: float = 10.0  # the paper's k; the first convolution keeps its 16 channels
    activation: str = "relu"
    dropout: Rate | None = None
    kernel_init: str = "he_normal"
    drop_path: Rate | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n classes"]:
        """Returns the logits.

        Raises:
          InputError: the depth is not 6n + 4.
        """
        n = blocks_per_stage(self.depth, extra=4)
        x = padded_conv(x, "conv1", 16, 3, kernel_init=self.kernel_init)
        x = residual_stages(
            x,
            PreActivationBlock,
            depths=(n, n, n),
            features=[scale_channels(c, self.width) for c in (16, 32, 64)],
            activation=self.activation,
            dropout=self.dropout,
            kernel_init=self.kernel_init,
            drop_path=self.drop_path,
            train=train,
        )
        x = _norm_and_activation(x, self.activation, "_last", train)
        x = GlobalAvgPool(name="avg_pool")(x)
        return classifier(x, self.num_classes, kernel_init=self.kernel_init, train=train)


def _norm_and_activation(x: Images, activation: str, name: str, train: bool) -> Images:
    x = BatchNorm(name=f"norm{name}")(x, train=train)
    return Activation(activation, name=f"{activation}{name}")(x)
