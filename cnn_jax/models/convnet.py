"""The plain chain that every course starts with: convolutions and pooling, then dense layers."""

import itertools
from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float

from cnn_jax.errors import unknown
from cnn_jax.layers.arithmetic import output_size, receptive_field
from cnn_jax.layers.dropout import Rate
from cnn_jax.models.modules import (
    POOLING,
    Activation,
    Conv,
    Dropout,
    Flatten,
    ZeroPad,
    classifier,
    scale_channels,
)


class ConvNet(nn.Module):
    """Convolutions with an activation, each pooled 2×2 if it is to be, then dense layers.

    Layer i is `conv{i}`, its activation `conv{i}_relu`, the pooling behind it `pool{i}`; then
    `flatten`, `dropout` unless it is None, `dense1` ... and `logits`.
    """

    num_classes: int
    features: Sequence[int]  # channels of each convolution
    pooled: Sequence[bool]  # whether pooling follows it
    window: int = 3
    zero_padding: int = 0  # around the image, before anything else
    padding: str = "VALID"  # of the convolutions
    pooling: str = "max"
    hidden: Sequence[int] = ()
    width: float = 1.0  # times all channels and hidden features
    activation: str = "relu"
    dropout: Rate | None = None
    kernel_init: str = "glorot_uniform"

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n classes"]:
        """Returns the logits."""
        if self.pooling not in POOLING:
            raise unknown("pooling", self.pooling, POOLING)
        if self.zero_padding:
            x = ZeroPad(self.zero_padding, name="pad")(x)
        for i, (features, pooled) in enumerate(zip(self.features, self.pooled, strict=True), 1):
            x = self._conv(x, scale_channels(features, self.width), f"conv{i}")
            if pooled:
                x = POOLING[self.pooling](name=f"pool{i}")(x)
        x = Flatten(name="flatten")(x)
        if self.dropout is not None:
            x = Dropout(self.dropout, name="dropout")(x, train=train)
        return classifier(
            x,
            self.num_classes,
            hidden=[scale_channels(features, self.width) for features in self.hidden],
            activation=self.activation,
            kernel_init=self.kernel_init,
            train=train,
        )

    def seen(self, size: int) -> int:
        """Returns how many of an image's rows, or columns, the logits depend on, from the first on.

        Those of `mnist_convnet` don't depend on the last two of 28: its second pooling gets 11 rows
        and drops the last. Where there is padding, all count as seen.
        """
        if self.padding != "VALID" or self.zero_padding:
            return size
        steps = [[(self.window, 1)] + [(2, 2)] * pooled for pooled in self.pooled]
        chain, outputs = list(itertools.chain(*steps)), size
        for window, stride in chain:
            outputs = output_size(outputs, window, stride=stride)
        field = receptive_field(chain)
        return field.size + (outputs - 1) * field.jump

    def _conv(
        self, x: Float[Array, "n h w c"], features: int, name: str
    ) -> Float[Array, "n oh ow features"]:
        window = (self.window, self.window)
        x = Conv(features, window, padding=self.padding, kernel_init=self.kernel_init, name=name)(x)
        return Activation(self.activation, name=f"{name}_{self.activation}")(x)
