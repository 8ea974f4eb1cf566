"""The convolution as a primitive, so that each platform can compute it in its own way.

A convolution and its two gradients are the derivatives of one trilinear form, Σ y · conv(x,
kernel), by y, x and the kernel. The primitive is the derivative by the operand `wanted`, from the
other two; it is linear in each of them, and its own transposes are again such derivatives, so
reverse and forward mode work to any order. What the platform is, only the lowering knows for
certain: `jit`, `export` and arrays on any device get the right one. Lowerings are in `cpu_conv`.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching
from jaxtyping import Array, Float

from cnn_jax.layers.arithmetic import Pairs, output_size
from cnn_jax.layers.cpu_fence import computed_once

X, KERNEL, Y = range(3)


class Geometry(NamedTuple):
    """Zero padding by (low, high) pairs, strides, groups of channels, distance of the taps.

    The defaults are for images; volumes have three of each.
    """

    pairs: Pairs
    strides: tuple[int, ...] = (1, 1)
    groups: int = 1
    dilations: tuple[int, ...] = (1, 1)

    @property
    def is_plain(self) -> bool:
        """Whether windows move by one pixel and see neighbours, in all channels."""
        return math.prod((*self.strides, self.groups, *self.dilations)) == 1

    @property
    def dimension_numbers(self) -> tuple[str, str, str]:
        """XLA's name for the layout of image, kernel and output."""
        spatial = "DHW"[-len(self.pairs) :]
        return f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"

    def output_sizes(self, shape: Sequence[int], window: Sequence[int]) -> list[int]:
        """Returns the spatial sizes of the convolution of (N, *spatial, C).

        >>> from cnn_jax.layers.conv_primitive import Geometry
        >>> Geometry(((1, 1), (0, 0)), strides=(1, 2)).output_sizes((1, 4, 5, 3), (3, 3))
        [4, 2]
        """
        sides = zip(shape[1:-1], window, self.pairs, self.strides, self.dilations, strict=True)
        return [output_size(n, f, stride=s, padding=p, dilation=d) for n, f, p, s, d in sides]


def convolve(
    x: Float[Array, "n *spatial _"], kernel: Float[Array, "*window _ c_out"], geometry: Geometry
) -> Float[Array, "n *out c_out"]:
    """Convolves (N, *spatial, C) with (*window, C / groups, C_out).

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv_primitive import Geometry, convolve
    >>> geometry = Geometry(pairs=((1, 1), (0, 0)), strides=(1, 2))
    >>> convolve(jnp.ones((1, 4, 5, 3)), jnp.ones((3, 3, 3, 8)), geometry).shape
    (1, 4, 2, 8)
    """
    sizes = geometry.output_sizes(x.shape, kernel.shape[:-2])
    shapes = (x.shape, kernel.shape, (x.shape[0], *sizes, kernel.shape[-1]))
    parameters = {"shapes": shapes, "geometry": geometry}
    return conv_p.bind(x, kernel, wanted=Y, mapped=(False, False), **parameters)


def convolve_transposed(
    x: Float[Array, "n *spatial c"],
    kernel: Float[Array, "*window c c_out"],
    *,
    stretch: tuple[int, ...],
    pairs: Pairs,
) -> Float[Array, "n *out c_out"]:
    """Convolves (N, *spatial, C), zeros between neighbours and around, with (*window, C, C_out).

    It is the derivative of a strided convolution by its input, whose output x would be. What
    `cpu_conv.fits` says of a plain geometry of these pairs holds for it too.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv_primitive import convolve_transposed
    >>> x, kernel = jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 8))
    >>> convolve_transposed(x, kernel, stretch=(2, 2), pairs=((1, 2), (1, 2))).shape
    (1, 8, 8, 8)
    """
    window = kernel.shape[:-2]
    flipped = jnp.flip(kernel, range(len(window))).swapaxes(-2, -1)
    sides = zip(x.shape[1:-1], window, stretch, pairs, strict=True)
    sizes = [output_size((n - 1) * s + 1, f, padding=pair) for n, f, s, pair in sides]
    shapes = ((x.shape[0], *sizes, kernel.shape[-1]), flipped.shape, x.shape)
    geometry = Geometry(turned(window, pairs), stretch, dilations=(1,) * len(window))
    parameters = {"shapes": shapes, "geometry": geometry, "mapped": (False, False)}
    return conv_p.bind(flipped, computed_once(x), wanted=X, **parameters)


def turned(window: Sequence[int], pairs: Pairs) -> Pairs:
    """Returns the padding of a convolution whose derivative by its input has `pairs`.

    >>> from cnn_jax.layers.conv_primitive import turned
    >>> turned((3, 5), ((1, 1), (0, 2)))
    ((1, 1), (4, 2))
    """
    return tuple((f - 1 - low, f - 1 - high) for f, (low, high) in zip(window, pairs, strict=True))


# Its operands are those of (x, kernel, y) that are not wanted, in this order; those `mapped` have a
# leading axis of members, as the result then has.


def _result_type(
    *operands: ShapedArray, wanted: int, shapes: tuple, mapped: tuple, **_: Any
) -> ShapedArray:
    members = [x.shape[0] for x, m in zip(operands, mapped, strict=True) if m][:1]
    return ShapedArray((*members, *shapes[wanted]), operands[0].dtype)


def _given(wanted: int) -> list[int]:
    return [i for i in (X, KERNEL, Y) if i != wanted]


def _transpose(
    of: int, cotangent: Array, *operands: Any, wanted: int, mapped: tuple, **parameters: Any
) -> Array:
    """Returns the cotangent of operand `of`, 0 or 1: the derivative by that one instead."""
    target, other = _given(wanted)[of], _given(wanted)[1 - of]
    known = {wanted: (cotangent, any(mapped)), other: (operands[1 - of], mapped[1 - of])}
    values, still_mapped = zip(*(known[i] for i in _given(target)), strict=True)
    result = conv_p.bind(*values, wanted=target, mapped=still_mapped, **parameters)
    return result.sum(0) if any(mapped) and not mapped[of] else result


def _batch(operands: Sequence, axes: Sequence, *, mapped: tuple, **parameters: Any) -> tuple:
    """Maps over images by a larger batch where they alone are mapped, else over members."""
    leading = [
        x if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]
    batched = tuple(axis is not None for axis in axes)
    count = leading[batched.index(True)].shape[0]
    wanted = parameters["wanted"]
    kernel_is_batched = wanted == KERNEL or batched[_given(wanted).index(KERNEL)]
    rule = _batch_members if kernel_is_batched or any(mapped) else _batch_images
    return rule(count, leading, batched, mapped=mapped, **parameters), 0


def _batch_images(
    count: int, operands: list, batched: tuple, *, wanted: int, shapes: tuple, **parameters: Any
) -> Array:
    n = count * shapes[X][0]
    operands = [
        x.reshape(n, *x.shape[2:]) if b else x for x, b in zip(operands, batched, strict=True)
    ]
    larger = tuple(s if i == KERNEL else (n, *s[1:]) for i, s in enumerate(shapes))
    result = conv_p.bind(*operands, wanted=wanted, shapes=larger, **parameters)
    return result.reshape(count, *shapes[wanted])


def _batch_members(
    count: int,
    operands: list,
    batched: tuple,
    *,
    wanted: int,
    shapes: tuple,
    mapped: tuple,
    **parameters: Any,
) -> Array:
    members = [x.shape[b] for x, b, m in zip(operands, batched, mapped, strict=True) if m][:1]
    grid = (count, *members)
    spread = []
    for i, x, b, m in zip(_given(wanted), operands, batched, mapped, strict=True):
        if b or m:
            x = x if b else x[None]
            x = x if m or not members else x[:, None]
            x = jnp.broadcast_to(x, (*grid, *shapes[i])).reshape(-1, *shapes[i])
        spread.append(x)
    either = tuple(b or m for b, m in zip(batched, mapped, strict=True))
    result = conv_p.bind(*spread, wanted=wanted, shapes=shapes, mapped=either, **parameters)
    return result.reshape(*grid, *shapes[wanted])


def _run(*operands: Array, **parameters: Any) -> Array:
    """Computes it outside `jit`: compiled, also where `jax.disable_jit` would have it in steps."""
    with jax.disable_jit(False):
        return _compiled(*operands, **parameters)


conv_p = Primitive("conv")
_compiled = jax.jit(conv_p.bind, static_argnames=("wanted", "shapes", "geometry", "mapped"))
conv_p.def_abstract_eval(_result_type)
conv_p.def_impl(_run)
ad.defbilinear(conv_p, partial(_transpose, 0), partial(_transpose, 1))
batching.primitive_batchers[conv_p] = _batch
