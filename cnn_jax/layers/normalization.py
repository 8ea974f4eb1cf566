"""Normalisation: statistics in float32 at least, outputs in the input's dtype."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.layers.precision import widen

PerChannel = Float[Array, "_"]
Statistics = tuple[Float[Array, "c"], Float[Array, "c"]]


def batch_norm(
    x: Float[Array, "*batch c"],
    scale: PerChannel | None,
    bias: PerChannel | None,
    mean: PerChannel,
    var: PerChannel,
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

    Raises:
        ValueError: if one of the arrays hasn't one number for each channel.

    Source: Ioffe and Szegedy 2015, algorithms 1 and 2 (arXiv 1502.03167).

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.normalization import batch_norm
    >>> x, scale, bias = jnp.array([[1.0], [5.0]]), jnp.ones(1), jnp.zeros(1)
    >>> mean, var = jnp.zeros(1), jnp.ones(1)
    >>> y, (mean, var) = batch_norm(x, scale, bias, mean, var, train=True)
    >>> y.round(2).tolist(), round(mean.item(), 2), round(var.item(), 2)
    ([[-1.0], [1.0]], 0.3, 1.3)
    """
    _check_channels(x, scale=scale, bias=bias, mean=mean, var=var)
    if not train:
        wide = widen(x)
        distances, zero = wide - _lift(mean, wide), jnp.zeros_like(mean)
        y = _normalise(distances, zero, var, scale, bias, epsilon)
        return y.astype(x.dtype), (mean, var)
    batch = _moments(x, tuple(range(x.ndim - 1)), axis_name)
    y = _normalise(batch.distances, batch.mean, batch.var, scale, bias, epsilon)
    new_mean, new_var = (
        momentum * old + (1 - momentum) * new.reshape(old.shape).astype(old.dtype)
        for old, new in ((mean, batch.origin + batch.mean), (var, batch.var))
    )
    return y.astype(x.dtype), (new_mean, new_var)


def layer_norm(
    x: Float[Array, "*batch c"],
    scale: PerChannel | None,
    bias: PerChannel | None,
    *,
    epsilon: float = 1e-6,
) -> Float[Array, "*batch c"]:
    """Normalises each vector along the last axis, then scales and shifts it; None does neither.

    Raises:
        ValueError: if scale or bias hasn't one number for each channel.

    Source: Ba, Kiros and Hinton 2016 (arXiv 1607.06450).

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.normalization import layer_norm
    >>> layer_norm(jnp.array([[1.0, 3.0], [2.0, 8.0]]), None, None).round(2).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    _check_channels(x, scale=scale, bias=bias)
    own = _moments(x, (-1,))
    y = _normalise(own.distances, own.mean, own.var, scale, bias, epsilon)
    return y.astype(x.dtype)


def group_norm(
    x: Float[Array, "n *spatial c"],
    scale: PerChannel | None,
    bias: PerChannel | None,
    *,
    groups: int,
    epsilon: float = 1e-6,
) -> Float[Array, "n *spatial c"]:
    """Normalises each example over space and over each group of neighbouring channels.

    groups=1 is layer norm over the whole example, groups=C instance norm. Scale and bias have one
    entry per channel; None means neither.

    Raises:
        ValueError: if the channels cannot be split into so many groups, or scale or bias hasn't one
            number for each of them.

    Source: Wu and He 2018 (arXiv 1803.08494).

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.normalization import group_norm
    >>> group_norm(jnp.array([[1.0, 3.0, 20.0, 80.0]]), None, None, groups=2).round(2).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    _check_channels(x, scale=scale, bias=bias)
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels cannot be split into {groups} groups")
    grouped = x.reshape(*x.shape[:-1], groups, channels // groups)
    axes = (*range(1, x.ndim - 1), -1)
    own = _moments(grouped, axes)
    spread = (*own.mean.shape[:-1], channels // groups)
    mean, var = (
        jnp.broadcast_to(m, spread).reshape(*spread[:-2], channels) for m in (own.mean, own.var)
    )
    y = _normalise(own.distances.reshape(x.shape), mean, var, scale, bias, epsilon)
    return y.astype(x.dtype)


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

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.normalization import local_response_norm
    >>> y = local_response_norm(jnp.ones((1, 4)), size=3, k=2.0, alpha=1.0, beta=1.0)
    >>> (1 / y).round(2).tolist()
    [[4.0, 5.0, 5.0, 4.0]]
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size must be odd, to be centred on a channel, not {size}")
    wide = widen(x)
    window = (1,) * (x.ndim - 1) + (size,)
    pairs = ((0, 0),) * (x.ndim - 1) + ((size // 2, size // 2),)
    activity = lax.reduce_window(wide * wide, 0.0, lax.add, window, (1,) * x.ndim, pairs)
    return (wide * (k + alpha * activity) ** -beta).astype(x.dtype)


class _Moments(NamedTuple):
    """Mean and biased variance of an input, seen from `origin`, near them."""

    distances: Array  # of the input from the origin, float32 at least
    origin: Array
    mean: Array  # of the distances
    var: Array


def _moments(x: Array, axes: Sequence[int], axis_name: Hashable = None) -> _Moments:
    """Returns the moments over the axes, which are kept, and over a mapped axis if one is named.

    Both come from one pass over x, and their gradient needs none: the mean of squared distances
    from the mean would take a second pass, and its gradient a third. To avoid cancellation where
    the mean is far from zero, x is first shifted by the mean of one slice of it, for batch norm
    that of the middle pixel of all images.
    """

    def mean_of(*values: Array) -> list[Array]:
        means = [value.mean(axes, keepdims=True) for value in values]
        return means if axis_name is None else lax.pmean(means, axis_name)

    wide = widen(x)
    others = sorted(axis % x.ndim for axis in axes)[1:]
    middle = [slice(n // 2, n // 2 + 1) if i in others else slice(n) for i, n in enumerate(x.shape)]
    (origin,) = mean_of(lax.stop_gradient(wide[tuple(middle)]))
    distances = wide - origin
    mean, square = mean_of(distances, lax.square(distances))
    var = square - lax.square(mean)
    # Not maximum(var, 0), half of whose gradient is lost where all elements are equal.
    return _Moments(distances, origin, mean, jnp.where(var < 0, 0, var))


def _normalise(
    distances: Array,
    mean: Array,
    var: Array,
    scale: Array | None,
    bias: Array | None,
    epsilon: float,
) -> Array:
    """Returns (x − mean) / sqrt(var + epsilon) × scale + bias; x and mean are seen from anywhere.

    As a factor and an offset, so that two sums over x are all that the gradient needs.
    """
    factor = lax.rsqrt(_lift(var, distances) + epsilon)
    if scale is not None:
        factor = factor * _lift(scale, distances)
    offset = -_lift(mean, distances) * factor
    if bias is not None:
        offset = offset + _lift(bias, distances)
    return distances * factor + offset


def _check_channels(x: Array, **given: Array | None) -> None:
    """Raises ValueError for an array that isn't one number per channel: it might fit all the same.

    Of one number alone, all channels would share it.
    """
    for name, array in given.items():
        if array is not None and array.shape != x.shape[-1:]:
            raise ValueError(
                f"{name} of shape {array.shape} does not fit an input of shape {x.shape}: it needs "
                f"one number for each of {x.shape[-1]} channels"
            )


def _lift(statistic: Array, x: Array) -> Array:
    """Returns a per-channel array with x's rank and dtype, ready to be broadcast."""
    missing = tuple(range(x.ndim - statistic.ndim))
    return jnp.expand_dims(statistic.astype(x.dtype), missing)
