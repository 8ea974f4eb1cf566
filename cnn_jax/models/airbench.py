"""The network of the CIFAR-10 speed record: 94% in seconds on one GPU.

Jordan: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv 2404.00498, section 3; the widths are
those of its successor with Muon, 94% in 2.59 s on an A100
(https://github.com/KellerJordan/cifar10-airbench, airbench94_muon.py). Its last layer has the
division by 256, which stands there beside weights of deviation 1, inside its weights here.
"""

from collections.abc import Sequence

import jax
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from cnn_jax.layers.whitening import patch_whitening
from cnn_jax.models.modules import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    scale_channels,
)

_WINDOW = (2, 2)  # of the whitening layer


class Airbench(nn.Module):
    """A whitening convolution, three blocks of two 3×3 convolutions, max pooling, dense layer.

    The first layer's kernel is not drawn but computed from training images, see `from_images`; the
    config holds it there by `optim.freeze`. Norms have biases and no scales.
    """

    num_classes: int
    widths: Sequence[int] = (64, 256, 256)
    width: float = 1.0  # times the channels of the blocks
    activation: str = "gelu"
    kernel_init: str = "dirac"

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n classes"]:
        """Returns the logits."""
        filters = 2 * _WINDOW[0] * _WINDOW[1] * x.shape[-1]
        x = Conv(filters, _WINDOW, padding="VALID", name="whiten")(x)
        x = Activation(self.activation, name=f"whiten_{self.activation}")(x)
        for block, channels in enumerate(self.widths, 1):
            channels = scale_channels(channels, self.width)
            for i in (1, 2):
                x = self._conv(x, channels, f"conv{block}_{i}", pooled=i == 1, train=train)
        x = Flatten(name="flatten")(MaxPool((3, 3), name="pool")(x))
        init = nn.initializers.normal(1 / x.shape[-1])
        return Dense(self.num_classes, use_bias=False, kernel_init=init, name="logits")(x)

    def _conv(
        self, x: Float[Array, "n h w c"], features: int, name: str, *, pooled: bool, train: bool
    ) -> Float[Array, "n oh ow features"]:
        x = Conv(features, (3, 3), use_bias=False, kernel_init=self.kernel_init, name=name)(x)
        if pooled:
            x = MaxPool(name=f"{name}_pool")(x)
        x = BatchNorm(momentum=0.6, epsilon=1e-12, use_scale=False, name=f"{name}_norm")(
            x, train=train
        )
        return Activation(self.activation, name=f"{name}_{self.activation}")(x)

    @staticmethod
    def from_images(images: Float[Array, "n h w c"]) -> PyTree:
        """Returns the parameters that come from training images, as the network is given them."""
        kernel = jax.jit(patch_whitening, static_argnames="window")(images, window=_WINDOW)
        return {"whiten": {"kernel": kernel}}
