"""Layers as plain NumPy loops in float64, from the definitions; nothing is shared with JAX."""

import itertools

import numpy as np


def _source(position, n, border):
    """The pixel that stands at a position which may lie outside; None for a zero."""
    if 0 <= position < n:
        return position
    if border == "zero":
        return None
    if border == "edge":
        return 0 if position < 0 else n - 1
    if border == "circular":
        return position % n
    return -position if position < 0 else 2 * (n - 1) - position  # reflect


def same_pairs(sizes, windows, strides, dilations):
    """The (low, high) pairs of "SAME", found by trying the least padding that is enough."""
    pairs = []
    for n, f, s, d in zip(sizes, windows, strides, dilations, strict=True):
        total = 0
        while len(range(0, n + total - d * (f - 1), s)) < -(-n // s):
            total += 1
        pairs.append((total // 2, total - total // 2))
    return pairs


def convolve(x, kernel, *, strides, pairs, dilations, groups=1, border="zero"):
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    sizes, windows = x.shape[1:-1], kernel.shape[:-2]
    outputs = [
        (n + sum(pair) - d * (f - 1) - 1) // s + 1
        for n, f, s, pair, d in zip(sizes, windows, strides, pairs, dilations, strict=True)
    ]
    per_group, out_channels = kernel.shape[-2:]
    y = np.zeros((x.shape[0], *outputs, out_channels))
    for place in itertools.product(*map(range, outputs)):
        for tap in itertools.product(*map(range, windows)):
            pixel = tuple(
                _source(o * s + t * d - pair[0], n, border)
                for o, s, t, d, pair, n in zip(
                    place, strides, tap, dilations, pairs, sizes, strict=True
                )
            )
            if None in pixel:
                continue
            for c in range(out_channels):
                first = c // (out_channels // groups) * per_group
                seen = x[(slice(None), *pixel, slice(first, first + per_group))]
                y[(slice(None), *place, c)] += seen @ kernel[(*tap, slice(None), c)]
    return y


def convolve_transposed(x, kernel, *, strides, lows, outputs, dilations):
    """Every input is scattered through the unflipped kernel, with the first `lows` cut off."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    y = np.zeros((x.shape[0], *outputs, kernel.shape[-1]))
    for pixel in itertools.product(*map(range, x.shape[1:-1])):
        for tap in itertools.product(*map(range, kernel.shape[:-2])):
            place = tuple(
                i * s + low - t * d
                for i, s, low, t, d in zip(pixel, strides, lows, tap, dilations, strict=True)
            )
            if all(0 <= o < size for o, size in zip(place, outputs, strict=True)):
                y[(slice(None), *place)] += x[(slice(None), *pixel)] @ kernel[tap]
    return y


def pool(x, reduce, *, windows, strides, pairs):
    """Reduces, over the first axis, the elements of each window that lie on the image."""
    x = np.asarray(x, np.float64)
    sizes = x.shape[1:-1]
    outputs = [
        (n + sum(pair) - f) // s + 1
        for n, f, s, pair in zip(sizes, windows, strides, pairs, strict=True)
    ]
    y = np.zeros((x.shape[0], *outputs, x.shape[-1]))
    for place in itertools.product(*map(range, outputs)):
        seen = []
        for tap in itertools.product(*map(range, windows)):
            pixel = tuple(
                o * s + t - pair[0]
                for o, s, t, pair in zip(place, strides, tap, pairs, strict=True)
            )
            if all(0 <= p < n for p, n in zip(pixel, sizes, strict=True)):
                seen.append(x[(slice(None), *pixel)])
        y[(slice(None), *place)] = reduce(np.stack(seen))
    return y
