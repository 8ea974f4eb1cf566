"""AlexNet, in two towers as published and in one.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks,
2012. The network was split over two GPUs: convolutions 2, 4 and 5 see only the maps of their own
tower (groups=2), which gives 60,965,224 parameters. The same layers in one tower, every convolution
connected to all maps, have 62,378,344. The images are 227×227: the paper says 224, but its first
layer's 55×55 outputs need 227, or 224 with a padding of 2 (`first_padding`).

Krizhevsky: One weird trick for parallelizing convolutional neural networks, arXiv 1404.5997, has
one tower of other widths and no response normalisation: `ONE_WEIRD_TRICK`, 61,100,840 parameters.
"""

from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float

from cnn_jax.errors import InputError
from cnn_jax.layers.dropout import Rate
from cnn_jax.models.modules import (
    Activation,
    Conv,
    Flatten,
    MaxPool,
    ResponseNorm,
    classifier,
    scale_channels,
)

ONE_WEIRD_TRICK = {
    "towers": 1,
    "widths": (64, 192, 384, 256, 256),
    "first_padding": 2,
    "response_norm": False,
    "kernel_init": "he_normal",
    "bias_init": "zeros",
}


class AlexNet(nn.Module):
    """Five convolutions, two hidden dense layers with dropout, the classes.

    Response normalisation follows the activations of the first two convolutions; overlapping max
    pooling (3×3, stride 2) follows both normalisations and the fifth convolution. Kernels start
    with a standard deviation of 0.01, the biases of convolutions 2, 4 and 5 and of the hidden
    layers at one (section 5).
    """

    num_classes: int
    towers: int = 2
    widths: Sequence[int] = (96, 256, 384, 384, 256)
    hidden: Sequence[int] = (4096, 4096)
    width: float = 1.0  # times all channels and hidden features
    first_padding: int = 0
    response_norm: bool = True
    activation: str = "relu"
    dropout: Rate = 0.5
    kernel_init: str = "normal"
    bias_init: str = "ones"  # where the paper sets ones

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n classes"]:
        """Returns the logits."""
        if self.towers < 1:
            raise InputError(f"AlexNet needs at least one tower, not {self.towers}")
        x = self._conv(x, 1, 11, stride=4, padding=self.first_padding)
        x = self._norm_and_pool(x, 1)
        x = self._conv(x, 2, 5, groups=self.towers, bias_init=self.bias_init)
        x = self._norm_and_pool(x, 2)
        x = self._conv(x, 3, 3)
        x = self._conv(x, 4, 3, groups=self.towers, bias_init=self.bias_init)
        x = self._conv(x, 5, 3, groups=self.towers, bias_init=self.bias_init)
        x = MaxPool((3, 3), stride=2, name="pool5")(x)
        return classifier(
            Flatten(name="flatten")(x),
            self.num_classes,
            hidden=[scale_channels(features, self.width) for features in self.hidden],
            activation=self.activation,
            dropout=self.dropout,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            train=train,
        )

    def _conv(
        self, x: Float[Array, "n h w c"], i: int, window: int, **options: object
    ) -> Float[Array, "n oh ow features"]:
        features = scale_channels(self.widths[i - 1], self.width, multiple_of=self.towers)
        options = {"kernel_init": self.kernel_init, "name": f"conv{i}"} | options
        x = Conv(features, (window, window), **options)(x)
        return Activation(self.activation, name=f"conv{i}_{self.activation}")(x)

    def _norm_and_pool(self, x: Float[Array, "n h w c"], i: int) -> Float[Array, "n oh ow c"]:
        if self.response_norm:
            x = ResponseNorm(name=f"norm{i}")(x)
        return MaxPool((3, 3), stride=2, name=f"pool{i}")(x)
