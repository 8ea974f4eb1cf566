"""Linen modules that declare parameters and call `cnn_jax.layers`; they hold no mathematics.

A layer without parameters is a module too, so that every operation a paper's reader would name has
a path: the summary lists it, its output can be captured, and an error can say where it arose.
Parameters stay float32; the layers compute in the images' type (mixed precision).
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnn_jax import layers
from cnn_jax.errors import InputError, unknown
from cnn_jax.layers.dropout import Rate

Images = Float[Array, "n *space c"]


class Conv(nn.Module):
    """Convolution over the spatial dimensions that `window` has; kernel HWIO, images NHWC."""

    features: int
    window: Sequence[int]
    stride: int | Sequence[int] = 1
    padding: str | int | Sequence[tuple[int, int]] = "SAME"
    dilation: int | Sequence[int] = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: str | Callable = "he_normal"
    bias_init: str | Callable = "zeros"

    @nn.compact
    def __call__(self, x: Images) -> Float[Array, "n *out d"]:
        """Applies the convolution."""
        channels = x.shape[-1]
        if channels == 0:
            raise ValueError("there are no channels to convolve")
        if self.groups < 1 or channels % self.groups:
            raise ValueError(f"{channels} channels cannot be split into {self.groups} groups")
        shape = (*self.window, channels // self.groups, self.features)
        kernel = self.param("kernel", _initializer(self.kernel_init), shape)
        bias = _bias(self) if self.use_bias else None
        return layers.conv(
            x,
            kernel,
            bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )


class Dense(nn.Module):
    """Fully connected layer over the last axis; kernel (inputs, features)."""

    features: int
    use_bias: bool = True
    kernel_init: str | Callable = "he_normal"
    bias_init: str | Callable = "zeros"

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n features"]:
        """Applies the matrix product."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", _initializer(self.kernel_init), shape)
        bias = _bias(self) if self.use_bias else None
        return layers.dense(x, kernel, bias)


class BatchNorm(nn.Module):
    """Batch normalisation; keeps running statistics in the collection `batch_stats`.

    `momentum` is the share of the old statistics that stays at each step, as in Flax and Keras;
    PyTorch's is the share of the new ones. The defaults are PyTorch's (its momentum of 0.1), which
    the published CIFAR and ImageNet recipes use; Keras's layer has 0.99 and an epsilon of 1e-3.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True

    @nn.compact
    def __call__(
        self, x: Images, *, train: bool, axis_name: str | None = None, groups: int = 1
    ) -> Images:
        """Normalises by the batch's statistics in training, by the running ones otherwise.

        `axis_name` and `groups` come from `batch_norm_over`, not from the networks.
        """
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape) if self.use_scale else None
        bias = self.param("bias", nn.initializers.zeros, shape) if self.use_bias else None
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        norm = partial(
            layers.batch_norm,
            train=train,
            momentum=self.momentum,
            epsilon=self.epsilon,
            axis_name=axis_name,
        )
        norm = _by_groups(norm, groups) if train and groups > 1 else norm
        y, (new_mean, new_var) = norm(x, scale, bias, mean.value, var.value)
        if train and not self.is_initializing():
            mean.value, var.value = new_mean, new_var
        return y


def _by_groups(norm: Callable, groups: int) -> Callable:
    """Returns batch norm of neighbouring examples, group by group; the new statistics' mean."""

    def norm_of_groups(x: Images, *others: jax.Array | None) -> tuple[Images, tuple]:
        if len(x) % groups:
            raise ValueError(f"a batch of {len(x)} cannot be split into {groups} equal groups")
        split = x.reshape(groups, -1, *x.shape[1:])
        axes = (0, *(None for _ in others))
        y, statistics = jax.vmap(norm, in_axes=axes)(split, *others)
        return y.reshape(x.shape), jax.tree.map(lambda s: s.mean(axis=0), statistics)

    return norm_of_groups


@contextlib.contextmanager
def batch_norm_over(*, axis_name: str | None = None, groups: int = 1) -> Iterator[None]:
    """Says, for the networks applied in the block, over which examples batch norm averages.

    How a batch lies on the devices is no property of a network, so no network has a field for it.

    Args:
      axis_name: the mapped axis over which the batch is spread; None: over what the network sees.
      groups: equal parts of the batch, each normalised by itself ("ghost" batch norm); the running
        statistics take in the mean of theirs.
    """

    def interceptor(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
            kwargs = {**kwargs, "axis_name": axis_name, "groups": groups}
        return call(*args, **kwargs)

    with nn.intercept_methods(interceptor):
        yield


class MaxPool(nn.Module):
    """Maximum over windows; the stride is the window unless given."""

    window: Sequence[int] = (2, 2)
    stride: int | Sequence[int] | None = None
    padding: str | int | Sequence[tuple[int, int]] = "VALID"

    def __call__(self, x: Images) -> Float[Array, "n *out c"]:
        """Pools."""
        return layers.max_pool(x, window=self.window, stride=self.stride, padding=self.padding)


class AvgPool(nn.Module):
    """Average over windows; the stride is the window unless given."""

    window: Sequence[int] = (2, 2)
    stride: int | Sequence[int] | None = None
    padding: str | int | Sequence[tuple[int, int]] = "VALID"

    def __call__(self, x: Images) -> Float[Array, "n *out c"]:
        """Pools."""
        return layers.avg_pool(x, window=self.window, stride=self.stride, padding=self.padding)


class GlobalAvgPool(nn.Module):
    """Average over all spatial positions: (N, H, W, C) to (N, C)."""

    def __call__(self, x: Images) -> Float[Array, "n c"]:
        """Pools."""
        return layers.global_avg_pool(x)


class ResponseNorm(nn.Module):
    """Local response normalisation over neighbouring channels, with AlexNet's constants."""

    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4  # of the sum; PyTorch and Caffe divide by the size, so theirs is 5e-4
    beta: float = 0.75

    def __call__(self, x: Images) -> Images:
        """Normalises."""
        return layers.local_response_norm(
            x, size=self.size, k=self.k, alpha=self.alpha, beta=self.beta
        )


class Activation(nn.Module):
    """An elementwise function by its name in `layers.ACTIVATIONS`."""

    function: str = "relu"

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Applies the function."""
        if self.function not in layers.ACTIVATIONS:
            raise unknown("activation", self.function, layers.ACTIVATIONS)
        return layers.ACTIVATIONS[self.function](x)


class Dropout(nn.Module):
    """Sets a fraction of the values to zero in training; draws from the stream `dropout`."""

    rate: Rate = 0.5

    def __call__(self, x: Float[Array, "..."], *, train: bool) -> Float[Array, "..."]:
        """Drops values in training, is the identity otherwise."""
        if not train or _is_zero(self.rate):
            return x
        return layers.dropout(self.make_rng("dropout"), x, rate=self.rate)


class DropPath(nn.Module):
    """Stochastic depth: leaves out a residual branch, example by example; stream `dropout`."""

    rate: Rate

    def __call__(self, x: Images, *, train: bool) -> Images:
        """Drops branches in training, is the identity otherwise."""
        if not train or _is_zero(self.rate):
            return x
        return layers.drop_path(self.make_rng("dropout"), x, rate=self.rate)


class Add(nn.Module):
    """Where a residual branch meets its shortcut."""

    def __call__(self, x: Images, y: Images) -> Images:
        """Adds two arrays of one shape."""
        return x + y


class Flatten(nn.Module):
    """(N, H, W, C) to (N, H * W * C), row by row."""

    def __call__(self, x: Images) -> Float[Array, "n f"]:
        """Flattens."""
        return layers.flatten(x)


class ZeroPad(nn.Module):
    """Zeros around the image: `padding` pixels on every side, or pairs per dimension."""

    padding: int | Sequence[tuple[int, int]]

    def __call__(self, x: Images) -> Float[Array, "n *out c"]:
        """Pads."""
        return layers.zero_pad(x, padding=self.padding)


POOLING = {"max": MaxPool, "avg": AvgPool}


class SingleLogit(nn.Module):
    """A network with one logit z, as logits (−z/2, z/2) of two classes: softmax is z's sigmoid.

    What speaks for either class can be explained so. The parameters are the network's own, under
    its names.
    """

    network: nn.Module

    def setup(self) -> None:
        """Puts the network in this module's place."""
        nn.share_scope(self, self.network)

    def __call__(self, x: Images, *, train: bool) -> Float[Array, "n 2"]:
        """Returns the logits."""
        z = self.network(x, train=train)
        return jnp.concatenate([-z / 2, z / 2], axis=-1)


def scale_channels(channels: int, width: float, *, multiple_of: int = 1) -> int:
    """Returns channels × width as a whole number of groups, one at least.

    Raises InputError for a width that is not above zero.

    >>> from cnn_jax.models.modules import scale_channels
    >>> scale_channels(64, 0.25), scale_channels(96, 0.1, multiple_of=2)
    (16, 10)
    """
    if not 0 < width < math.inf:
        raise InputError(f"a network's width must be above zero, not {width}")
    return max(1, round(channels * width / multiple_of)) * multiple_of


def classifier(
    x: Float[Array, "n f"],
    num_classes: int,
    *,
    hidden: Sequence[int] = (),
    activation: str = "relu",
    dropout: Rate | None = None,
    kernel_init: str | Callable = "he_normal",
    bias_init: str | Callable = "zeros",
    train: bool,
) -> Float[Array, "n classes"]:
    """Returns logits from features, inside a network's compact call.

    The hidden layers are `dense1`, `dense2` ..., each with its activation and, unless `dropout` is
    None, dropout after it; the last layer is `logits`, its biases start at zero.
    """
    for i, features in enumerate(hidden, start=1):
        x = Dense(features, kernel_init=kernel_init, bias_init=bias_init, name=f"dense{i}")(x)
        x = Activation(activation, name=f"dense{i}_{activation}")(x)
        if dropout is not None:
            x = Dropout(dropout, name=f"dense{i}_dropout")(x, train=train)
    return Dense(num_classes, kernel_init=kernel_init, name="logits")(x)


def _is_zero(rate: Rate) -> bool:
    return isinstance(rate, int | float) and rate == 0


def _bias(module: Conv | Dense) -> jax.Array:
    return module.param("bias", _initializer(module.bias_init), (module.features,))


def _initializer(initializer: str | Callable) -> Callable:
    return layers.initializer(initializer) if isinstance(initializer, str) else initializer
