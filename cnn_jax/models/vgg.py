"""VGG: nothing but 3×3 convolutions and 2×2 max pooling, eleven to nineteen layers deep.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition,
arXiv 1409.1556, table 1, columns A, B, D and E. Batch norm came later; where it is on, it stands
between the convolution and the activation, and the convolution keeps its bias unless told
otherwise, as in the models that others publish.
"""

from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float

from cnn_jax.layers.dropout import Rate
from cnn_jax.models.modules import (
    Activation,
    BatchNorm,
    Conv,
    Flatten,
    MaxPool,
    classifier,
    scale_channels,
)

# Convolutions in each of the five blocks; a block ends with max pooling.
VGG11, VGG13, VGG16, VGG19 = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)


class VGG(nn.Module):
    """Five blocks of convolutions, then dense layers.

    `hidden` are the dense layers before the classes: two of 4,096 in the paper, none in the form
    for 32×32 images, whose last feature map is a single pixel.
    """

    num_classes: int
    depths: Sequence[int] = VGG16
    widths: Sequence[int] = (64, 128, 256, 512, 512)
    hidden: Sequence[int] = (4096, 4096)
    width: float = 1.0  # times all channels and hidden features
    batch_norm: bool = False
    use_bias: bool = True  # of the convolutions
    activation: str = "relu"
    dropout: Rate = 0.5
    kernel_init: str = "he_normal"

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n classes"]:
        """Returns the logits."""
        for block, (depth, features) in enumerate(zip(self.depths, self.widths, strict=True), 1):
            for i in range(1, depth + 1):
                channels = scale_channels(features, self.width)
                x = self._conv(x, channels, f"conv{block}_{i}", train)
            x = MaxPool(name=f"pool{block}")(x)
        return classifier(
            Flatten(name="flatten")(x),
            self.num_classes,
            hidden=[scale_channels(features, self.width) for features in self.hidden],
            activation=self.activation,
            dropout=self.dropout,
            kernel_init=self.kernel_init,
            train=train,
        )

    def _conv(
        self, x: Float[Array, "n h w c"], features: int, name: str, train: bool
    ) -> Float[Array, "n h w features"]:
        x = Conv(features, (3, 3), use_bias=self.use_bias, kernel_init=self.kernel_init, name=name)(
            x
        )
        if self.batch_norm:
            x = BatchNorm(name=f"{name}_norm")(x, train=train)
        return Activation(self.activation, name=f"{name}_{self.activation}")(x)
