"""Pooling over one to three spatial dimensions, channels last."""

import itertools
import math
from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.layers.arithmetic import Padding, per_dimension, window_padding
from cnn_jax.layers.cpu_fence import computed_once
from cnn_jax.layers.precision import check_floating, widen

Ints = int | Sequence[int]

_MAX_TAPS = 64  # beyond, a program of one operation per tap would take long to compile


def max_pool(
    x: Float[Array, "n *spatial c"],
    *,
    window: Ints,
    stride: Ints | None = None,
    padding: Padding = "VALID",
) -> Float[Array, "n *out c"]:
    """Takes the largest element of each window of (N, *spatial, C).

    Padding never wins. Where several elements of a window are equally large, the gradient
    goes whole to the first of them in C order.

    Args:
        x: the input, with one to three spatial dimensions.
        window: size of the window, one int or one per dimension.
        stride: steps between windows; None means the window's size, so that they tile.
        padding: "SAME", "VALID", an int, or one (low, high) pair per dimension.

    Raises:
        ValueError: if a window does not fit or could lie in the padding alone, or the input is of
            integers.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.pooling import max_pool
    >>> max_pool(jnp.arange(6.0).reshape(1, 6, 1), window=2).ravel().tolist()
    [1.0, 3.0, 5.0]
    """
    windows, strides, pairs = _geometry(x, window, stride, padding)
    return _reduce_max(x, windows, strides, pairs)


def avg_pool(
    x: Float[Array, "n *spatial c"],
    *,
    window: Ints,
    stride: Ints | None = None,
    padding: Padding = "VALID",
    count_padding: bool = False,
) -> Float[Array, "n *out c"]:
    """Takes the mean of each window of (N, *spatial, C), summed in float32 at least.

    Args:
        x: the input, with one to three spatial dimensions.
        window: size of the window, one int or one per dimension.
        stride: steps between windows; None means the window's size, so that they tile.
        padding: "SAME", "VALID", an int, or one (low, high) pair per dimension.
        count_padding: divide by the whole window (PyTorch's and Flax's default) rather than by the
            part of it that lies on the image (Keras's and TensorFlow's).

    Raises:
        ValueError: if a window does not fit or could lie in the padding alone, or the input is of
            integers.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.pooling import avg_pool
    >>> avg_pool(jnp.ones((1, 3, 1)), window=2, padding="SAME").ravel().tolist()
    [1.0, 1.0]
    >>> avg_pool(jnp.ones((1, 3, 1)), window=2, padding="SAME", count_padding=True).ravel().tolist()
    [1.0, 0.5]
    """
    windows, strides, pairs = _geometry(x, window, stride, padding)
    wide = widen(x)
    total = _reduce_sum(wide, windows, strides, pairs)
    if count_padding or not any(map(any, pairs)):
        return (total / math.prod(windows)).astype(x.dtype)
    ones = jnp.ones((1, *x.shape[1:-1], 1), wide.dtype)
    return (total / _reduce_sum(ones, windows, strides, pairs)).astype(x.dtype)


def global_max_pool(x: Float[Array, "n *spatial c"]) -> Float[Array, "n c"]:
    """Takes the largest element of each channel: (N, *spatial, C) to (N, C).

    Where several are equally large, they share the gradient equally.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.pooling import global_max_pool
    >>> global_max_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
    [[6.0, 7.0]]
    """
    return x.max(axis=_spatial_axes(x))


def global_avg_pool(x: Float[Array, "n *spatial c"]) -> Float[Array, "n c"]:
    """Takes the mean of each channel, summed in float32 at least: (N, *spatial, C) to (N, C).

    Source: Lin, Chen and Yan 2013, section 3.2 (arXiv 1312.4400).

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.pooling import global_avg_pool
    >>> global_avg_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
    [[3.0, 4.0]]
    """
    return widen(x).mean(axis=_spatial_axes(x)).astype(x.dtype)


def _reduce_max(x: Array, windows: tuple, strides: tuple, pairs: tuple) -> Array:
    """The one place where windows are maximised.

    A large window is maximised along one dimension after the other, the last first: so the first
    of equals still is the first in C order.
    """
    if math.prod(windows) > _MAX_TAPS and sum(f > 1 for f in windows) > 1:
        for i in reversed(range(len(windows))):
            along = (_along(i, windows, 1), _along(i, strides, 1), _along(i, pairs, (0, 0)))
            x = _reduce_max(x, *along)
        return x
    # A negative high padding crops what no window sees.
    fitted = [(0, 0, 0)]
    for n, f, s, (low, high) in zip(x.shape[1:-1], windows, strides, pairs, strict=True):
        last = (n + low + high - f) // s * s
        fitted.append((low, last + f - low - n, 0))
    x = lax.pad(x, x.dtype.type(-math.inf), [*fitted, (0, 0, 0)])
    return _max_over_taps(x, windows, strides)


def _along(dimension: int, values: Sequence, elsewhere: int | tuple[int, int]) -> tuple:
    return tuple(v if i == dimension else elsewhere for i, v in enumerate(values))


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _max_over_taps(x: Array, windows: tuple, strides: tuple) -> Array:
    """Returns the maximum of the slices that hold one element of every window each.

    The gradient of `reduce_window` scatters: slow on a CPU (30 times slower than this for windows
    that tile), and in no fixed order on a GPU. Here it is a choice by the number of the tap that
    won, which is an elementwise operation.
    """
    return reduce(lax.max, _taps(x, windows, strides))


@_max_over_taps.defjvp
def _max_over_taps_jvp(windows: tuple, strides: tuple, primals: tuple, tangents: tuple) -> tuple:
    (x,), (dx,) = primals, tangents
    y, *others = _taps(x, windows, strides)
    kind = jnp.uint8 if len(others) < 256 else jnp.uint32
    winner = jnp.zeros(y.shape, kind)
    for number, tap in enumerate(others, 1):
        winner = jnp.where((y >= tap) | (y != y), winner, kind(number))  # NaN stays
        y = lax.max(y, tap)
    if windows != strides:
        # On a GPU all who read the gradient would else gather it from its windows once more.
        dx = lax.platform_dependent(dx, cuda=lax.optimization_barrier, default=lambda dx: dx)
        steps = enumerate(_taps(dx, windows, strides))
        return y, reduce(lax.add, (jnp.where(winner == number, tap, 0) for number, tap in steps))
    # No element is in two windows, so that in the transpose there is nothing to add up.
    tiles = _tiles(dx, windows)
    within = tuple(range(2, tiles.ndim - 1, 2))
    numbers = jnp.arange(math.prod(windows), dtype=kind).reshape(
        [tiles.shape[axis] if axis in within else 1 for axis in range(tiles.ndim)]
    )
    chosen = jnp.where(jnp.expand_dims(computed_once(winner), within) == numbers, tiles, 0)
    return y, chosen.sum(within)


def _tiles(x: Array, windows: tuple) -> Array:
    """Returns (N, H, W, C) as (N, H / f, f, W / f, f, C)."""
    for axis in reversed(range(1, x.ndim - 1)):  # one by one: explicit shardings go through that
        f = windows[axis - 1]
        x = x.reshape(*x.shape[:axis], x.shape[axis] // f, f, *x.shape[axis + 1 :])
    return x


def _taps(x: Array, windows: tuple, strides: tuple) -> list[Array]:
    """Returns, for each place in the window in C order, that element of all windows."""
    room = [n - f + 1 for n, f in zip(x.shape[1:-1], windows, strict=True)]
    taps = []
    for start in itertools.product(*map(range, windows)):
        limit = [at + n for at, n in zip(start, room, strict=True)]
        taps.append(
            lax.slice(x, (0, *start, 0), (x.shape[0], *limit, x.shape[-1]), (1, *strides, 1))
        )
    return taps


def _reduce_sum(x: Array, windows: tuple, strides: tuple, pairs: tuple) -> Array:
    """The one place where windows are summed."""
    sliding = (1, *windows, 1), (1, *strides, 1), ((0, 0), *pairs, (0, 0))
    return lax.reduce_window(x, 0.0, lax.add, *sliding)


def _geometry(x: Array, window: Ints, stride: Ints | None, padding: Padding) -> tuple:
    """Returns windows, strides and padding pairs, one entry per dimension, checked."""
    check_floating(x)
    rank = len(_spatial_axes(x))
    windows = per_dimension(window, rank, "window")
    strides = windows if stride is None else per_dimension(stride, rank, "stride")
    pairs = window_padding(
        x.shape[1:-1], windows, stride=strides, padding=padding, dilation=(1,) * rank
    )
    for f, pair in zip(windows, pairs, strict=True):
        if max(pair) >= f:
            raise ValueError(f"a padding of {max(pair)} must be smaller than the window, {f}")
    return windows, strides, pairs


def _spatial_axes(x: Array) -> tuple[int, ...]:
    if x.ndim not in (3, 4, 5):
        raise ValueError(
            f"the input must be (N, *spatial, C) with 1 to 3 spatial dimensions; "
            f"it has shape {x.shape}"
        )
    return tuple(range(1, x.ndim - 1))
