"""The plain 2-D convolution as a primitive, so that each platform can compute it in its own way.

Stride 1, no dilation, one group, float32: what most layers are. A convolution and its two gradients
are the derivatives of one trilinear form, Σ y · conv(x, kernel), by y, x and the kernel. The
primitive is the derivative by the operand `wanted`, from the other two; it is linear in each of
them, and its own transposes are again such derivatives, so reverse and forward mode work to any
order. What the platform is, only the lowering knows for certain: `jit`, `export` and arrays on any
device get the right one. Everywhere but on a CPU, and for most shapes there too, that is XLA's
convolution; `_way_on_cpu` says for which it is not.

The alternatives are matrix products: with patches (`cpu_patches`) and, in fewer multiplications, by
Winograd's method (`cpu_winograd`); both over blocks of a few images that stay in cache.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from cnn_jax.layers import cpu_patches, cpu_winograd
from cnn_jax.layers.cpu_fence import computed_once, is_placed
from cnn_jax.layers.cpu_patches import Pairs, output_sizes

_X, _KERNEL, _Y = range(3)


def fits(x: Float[Array, "..."], kernel: Float[Array, "..."], pairs: Sequence) -> bool:
    """Tells whether `plain_conv2d` takes these operands with this padding.

    Neither arrays mapped by `shard_map`, nor those with explicit shardings, nor symbolic shapes are
    taken: XLA's convolution knows how to hand those properties on.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.cpu_conv import fits
    >>> fits(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 8)), ((1, 1), (1, 1)))
    True
    """
    if x.ndim != 4 or not x.dtype == kernel.dtype == jnp.float32:
        return False
    concrete = all(isinstance(n, int) and n > 0 for n in (*x.shape, *kernel.shape))
    inside = all(0 <= p < f for f, pair in zip(kernel.shape[:2], pairs, strict=True) for p in pair)
    return concrete and inside and not any(map(is_placed, (x, kernel)))


def plain_conv2d(
    x: Float[Array, "n h w c"], kernel: Float[Array, "fh fw c c_out"], *, pairs: Pairs
) -> Float[Array, "n oh ow c_out"]:
    """Convolves (N, H, W, C) with (H, W, C, C_out) after zero padding by (low, high) pairs.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.cpu_conv import plain_conv2d
    >>> plain_conv2d(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 8)), pairs=((1, 1), (0, 0))).shape
    (1, 4, 2, 8)
    """
    sizes = output_sizes(x.shape, kernel.shape[:2], pairs)
    shapes = (x.shape, kernel.shape, (x.shape[0], *sizes, kernel.shape[-1]))
    x = computed_once(x)  # not once for each of the places that a patch takes it to
    return _conv_p.bind(x, kernel, wanted=_Y, shapes=shapes, pairs=pairs, mapped=(False, False))


# Ways to compute the three derivatives.


def _stock(a: Array, b: Array, *, wanted: int, shapes: tuple, pairs: Pairs) -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    conv = lambda x, kernel: lax.conv_general_dilated(
        x, kernel, (1, 1), pairs, dimension_numbers=numbers
    )
    if wanted == _Y:
        return conv(a, b)
    if wanted == _X:
        linear, y = (lambda x: conv(x, a)), b
    else:
        linear, y = (lambda kernel: conv(a, kernel)), b
    (result,) = jax.linear_transpose(linear, jax.ShapeDtypeStruct(shapes[wanted], y.dtype))(y)
    return result


def _by_products(
    module: Any, a: Array, b: Array, *, wanted: int, shapes: tuple, pairs: Pairs
) -> Array:
    return (module.input_gradient, module.kernel_gradient, module.forward)[wanted](a, b, pairs)


_by_patches = partial(_by_products, cpu_patches)
_by_winograd = partial(_by_products, cpu_winograd)


def _by_a_column_more(a: Array, b: Array, *, wanted: int, shapes: tuple, pairs: Pairs) -> Array:
    """Returns the output cut from a wider one: XLA takes another way where there is no padding."""
    top, (left, right) = pairs
    _, height, width, outputs = shapes[_Y]
    wider = (*shapes[:_Y], (shapes[_X][0], height, width + 1, outputs))
    return _stock(a, b, wanted=wanted, shapes=wider, pairs=(top, (left, right + 1)))[:, :, :-1]


def _along_rows(x: Array, kernel: Array, *, wanted: int, shapes: tuple, pairs: Pairs) -> Array:
    """Returns the unpadded output, convolved in one dimension, the window's rows side by side."""
    fh, fw, _, outputs = kernel.shape
    n, height, width, _ = shapes[wanted]
    rows = jnp.concatenate([x[:, i : i + height] for i in range(fh)], -1)
    y = lax.conv_general_dilated(
        rows.reshape(n, -1, rows.shape[-1]),
        kernel.swapaxes(0, 1).reshape(fw, -1, outputs),
        (1,),
        ((0, fw - 1),),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    return y.reshape(n, height, -1, outputs)[:, :, :width]


def _way_on_cpu(wanted: int, shapes: tuple, pairs: Pairs) -> Callable:
    """Returns the way that takes least time on a CPU.

    Measured with jaxlib 0.10.2 on two cores with AVX-512, as factors of time won over XLA's
    convolution. Patches: a window larger than what it slides over, 5 to 80; few channels or few
    outputs, 1.2 to 10; the kernel's gradient unpadded, 1.3 to 5, and of many channels, 1 to 3.
    Winograd's: the kernel's gradient, 1 to 8; the output, 1 to 5; the input's gradient padded,
    1 to 3. Along rows: the output unpadded and wider than the input, 1.3 to 3; a column more: else
    unpadded, 1 to 5. Elsewhere XLA's is as fast, or up to 3 times faster.
    """
    maps = [shape[1:3] for shape in shapes]
    window = maps[_Y] if wanted == _KERNEL else shapes[_KERNEL][:2]
    if any(f > n for f, n in zip(window, maps[_Y if wanted == _X else _X], strict=True)):
        return _by_patches
    channels, outputs = shapes[_KERNEL][2:]
    few = cpu_patches.few(channels, outputs)
    tiled = shapes[_KERNEL][:2] == (3, 3) and cpu_winograd.suits(maps[_Y])
    unpadded = not any(map(any, pairs))
    if wanted == _KERNEL:
        if tiled and not few and channels * outputs >= 256:
            return _by_winograd
        inside = all(f <= n for f, n in zip(shapes[_KERNEL][:2], maps[_Y], strict=True))
        many = inside and channels * outputs >= 512
        return _by_patches if unpadded or many or (few and outputs >= 4 * channels) else _stock
    if few:
        return _by_patches
    if wanted == _X and unpadded:
        return _stock
    if tiled and min(channels, outputs) >= 32:
        return _by_winograd
    if not unpadded or channels < 16 or math.prod(window) == 1:
        return _stock
    return _along_rows if outputs > channels else _by_a_column_more


# The primitive. Its operands are those of (x, kernel, y) that are not wanted, in this order; those
# `mapped` have a leading axis of members, as the result then has.


def _compute(rule: Callable, *operands: Array, mapped: tuple, **parameters: Any) -> Array:
    run = partial(rule, **parameters)
    if any(mapped):
        run = jax.vmap(run, [0 if m else None for m in mapped])
    return run(*operands)


def _compute_on_cpu(*operands: Array, mapped: tuple, **parameters: Any) -> Array:
    way = _way_on_cpu(**parameters)
    if not any(mapped):
        return way(*operands, **parameters)
    # XLA's own are slow both with many kernels, as a grouped convolution, and inside a loop.
    way = _by_winograd if way is _by_winograd else _by_patches
    x, kernel, _ = parameters["shapes"]
    members = len(operands[mapped.index(True)])
    room = cpu_patches.images_in_cache(x, kernel, parameters["pairs"])
    if way is _by_patches and members * x[0] <= room:
        return _compute(way, *operands, mapped=mapped, **parameters)

    def member(i: Array) -> Array:
        pairs = zip(operands, mapped, strict=True)
        return way(*(computed_once(x[i]) if m else x for x, m in pairs), **parameters)

    return lax.map(member, jnp.arange(members))


def _result_type(
    *operands: ShapedArray, wanted: int, shapes: tuple, mapped: tuple, **_: Any
) -> ShapedArray:
    members = [x.shape[0] for x, m in zip(operands, mapped, strict=True) if m][:1]
    return ShapedArray((*members, *shapes[wanted]), operands[0].dtype)


def _given(wanted: int) -> list[int]:
    return [i for i in (_X, _KERNEL, _Y) if i != wanted]


def _transpose(
    of: int, cotangent: Array, *operands: Any, wanted: int, mapped: tuple, **parameters: Any
) -> Array:
    """Returns the cotangent of operand `of`, 0 or 1: the derivative by that one instead."""
    target, other = _given(wanted)[of], _given(wanted)[1 - of]
    known = {wanted: (cotangent, any(mapped)), other: (operands[1 - of], mapped[1 - of])}
    values, still_mapped = zip(*(known[i] for i in _given(target)), strict=True)
    result = _conv_p.bind(*values, wanted=target, mapped=still_mapped, **parameters)
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
    kernel_is_batched = wanted == _KERNEL or batched[_given(wanted).index(_KERNEL)]
    rule = _batch_members if kernel_is_batched or any(mapped) else _batch_images
    return rule(count, leading, batched, mapped=mapped, **parameters), 0


def _batch_images(
    count: int, operands: list, batched: tuple, *, wanted: int, shapes: tuple, **parameters: Any
) -> Array:
    n = count * shapes[_X][0]
    operands = [
        x.reshape(n, *x.shape[2:]) if b else x for x, b in zip(operands, batched, strict=True)
    ]
    larger = tuple(s if i == _KERNEL else (n, *s[1:]) for i, s in enumerate(shapes))
    result = _conv_p.bind(*operands, wanted=wanted, shapes=larger, **parameters)
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
    result = _conv_p.bind(*spread, wanted=wanted, shapes=shapes, mapped=either, **parameters)
    return result.reshape(*grid, *shapes[wanted])


_conv_p = Primitive("plain_conv2d")
_conv_p.def_abstract_eval(_result_type)
_conv_p.def_impl(jax.jit(_conv_p.bind, static_argnames=("wanted", "shapes", "pairs", "mapped")))
ad.defbilinear(_conv_p, partial(_transpose, 0), partial(_transpose, 1))
batching.primitive_batchers[_conv_p] = _batch
mlir.register_lowering(_conv_p, mlir.lower_fun(partial(_compute, _stock), multiple_results=False))
mlir.register_lowering(
    _conv_p, mlir.lower_fun(_compute_on_cpu, multiple_results=False), platform="cpu"
)
