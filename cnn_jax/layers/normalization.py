"""Normalisation: statistics in float32 at least, outputs in the input's dtype."""

from collections.abc import Hashable, Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.layers.precision import widen

Statistics = tuple[Float[Array, "c"], Float[Array, "c"]]


def batch_norm(
    x: Float[Array, "*batch c"],
    scale: Float[Array, "c"] | None,
    bias: Float[Array, "c"] | None,
    mean: Float[Array, "c"],
    var: Float[Array, "c"],
    *,
    train: bool,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    axis_name: Hashable = None,
) -> tuple[Float[Array, "*batch c"], Statistics]:
    """Normalises each channel over the batch and returns (y, (mean, var)), the new statistics.

    In training, y is normalised by the batch's own mean and biased variance, and the running ones
    move: new = momentum × old + (1 − momentum) × batch. Otherwise y is normalised by the running
    statistics, which come back unchanged. Flax and Keras have the same rule; PyTorch calls
    1 − momentum its momentum, and lets the running variance follow the unbiased one.

    Args:
        x: the input; every axis but the last is averaged over.
        scale: learned scale, or None for 1.
        bias: learned shift, or None for 0.
        mean: running mean.
        var: running variance.
        train: use and record the batch's statistics; a Python bool.
        momentum: the share of the old running statistics that is kept.
        epsilon: added to the variance.
        axis_name: name of a mapped axis over which the batch is spread; statistics are those of
            the whole batch. Every device must hold the same number of examples.

    Source: Ioffe and Szegedy 2015, algorithms 1 and 2 (arXiv 1502.03167).
    """
    if not train:
        return _normalise(x, mean, var, scale, bias, epsilon), (mean, var)
    batch = _moments(x, tuple(range(x.ndim - 1)), axis_name)
    y = _normalise(x, *batch, scale, bias, epsilon)
    new_mean, new_var = (
        momentum * old + (1 - momentum) * new.reshape(old.shape).astype(old.dtype)
        for old, new in zip((mean, var), batch, strict=True)
    )
    return y, (new_mean, new_var)


def layer_norm(
    x: Float[Array, "*batch c"],
    scale: Float[Array, "c"] | None,
    bias: Float[Array, "c"] | None,
    *,
    epsilon: float = 1e-6,
) -> Float[Array, "*batch c"]:
    """Normalises each vector along the last axis, then scales and shifts it; None does neither.

    Source: Ba, Kiros and Hinton 2016 (arXiv 1607.06450).
    """
    mean, var = _moments(x, (-1,))
    return _normalise(x, mean, var, scale, bias, epsilon)


def group_norm(
    x: Float[Array, "n *spatial c"],
    scale: Float[Array, "c"] | None,
    bias: Float[Array, "c"] | None,
    *,
    groups: int,
    epsilon: float = 1e-6,
) -> Float[Array, "n *spatial c"]:
    """Normalises each example over space and over each group of neighbouring channels.

    groups=1 is layer norm over the whole example, groups=C instance norm. Scale and bias have one
    entry per channel; None means neither.

    Raises:
        ValueError: if the channels cannot be split into so many groups.

    Source: Wu and He 2018 (arXiv 1803.08494).
    """
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels cannot be split into {groups} groups")
    grouped = x.reshape(*x.shape[:-1], groups, channels // groups)
    axes = (*range(1, x.ndim - 1), -1)
    mean, var = _moments(grouped, axes)
    spread = (*mean.shape[:-1], channels // groups)
    mean, var = (jnp.broadcast_to(m, spread).reshape(*spread[:-2], channels) for m in (mean, var))
    return _normalise(x, mean, var, scale, bias, epsilon)


def local_response_norm(
    x: Float[Array, "*batch c"],
    *,
    size: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
) -> Float[Array, "*batch c"]:
    """Divides each channel by the activity of its neighbours: a / (k + alpha Σ a²) ** beta.

    The sum runs over `size` neighbouring channels, the channel itself in the middle, cut off at the
    first and last. It is not averaged: PyTorch and Caffe divide alpha by size, so the same layer
    has alpha × size there.

    Raises:
        ValueError: if size is even or less than 1.

    Source: Krizhevsky, Sutskever and Hinton 2012, section 3.3.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size must be odd, to be centred on a channel, not {size}")
    wide = widen(x)
    window = (1,) * (x.ndim - 1) + (size,)
    pairs = ((0, 0),) * (x.ndim - 1) + ((size // 2, size // 2),)
    activity = lax.reduce_window(wide * wide, 0.0, lax.add, window, (1,) * x.ndim, pairs)
    return (wide * (k + alpha * activity) ** -beta).astype(x.dtype)


def _moments(x: Array, axes: Sequence[int], axis_name: Hashable = None) -> tuple[Array, Array]:
    """Returns mean and biased variance, over a mapped axis too if one is named; axes are kept.

    The variance is the mean of squared distances from the mean of all: never negative, and exact
    where the mean of squares less the squared mean would cancel.
    """

    def mean_of(values: Array) -> Array:
        mean = values.mean(axes, keepdims=True)
        return mean if axis_name is None else lax.pmean(mean, axis_name)

    wide = widen(x)
    mean = mean_of(wide)
    return mean, mean_of(lax.square(wide - mean))


def _normalise(
    x: Array, mean: Array, var: Array, scale: Array | None, bias: Array | None, epsilon: float
) -> Array:
    """Returns (x − mean) / sqrt(var + epsilon) × scale + bias, in x's dtype."""
    wide = widen(x)
    factor = lax.rsqrt(_lift(var, wide) + epsilon)
    if scale is not None:
        factor = factor * _lift(scale, wide)
    y = (wide - _lift(mean, wide)) * factor
    if bias is not None:
        y = y + _lift(bias, wide)
    return y.astype(x.dtype)


def _lift(statistic: Array, x: Array) -> Array:
    """Returns a per-channel array with x's rank and dtype, ready to be broadcast."""
    missing = tuple(range(x.ndim - statistic.ndim))
    return jnp.expand_dims(statistic.astype(x.dtype), missing)
