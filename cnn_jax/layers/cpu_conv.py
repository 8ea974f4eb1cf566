"""The plain 2-D convolution as a primitive, so that each platform can compute it in its own way.

Stride 1, no dilation, one group, float32: what most layers are. A convolution and its two gradients
are the derivatives of one trilinear form, Σ y · conv(x, kernel), by y, x and the kernel. The
primitive is the derivative by the operand `wanted`, from the other two; it is linear in each of
them, and its own transposes are again such derivatives, so reverse and forward mode work to any
order. What the platform is, only the lowering knows for certain: `jit`, `export` and arrays on any
device get the right one. Everywhere but on a CPU, and for most shapes there too, that is XLA's
convolution; `_way_on_cpu` says for which it is not.

The main alternative is a matrix product with patches (im2col), over blocks of a few images, so that
the patches of a block stay in cache.
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
from jax.sharding import AxisType
from jaxtyping import Array, Float

Pairs = tuple[tuple[int, int], ...]

_X, _KERNEL, _Y = range(3)
_ROWS = 1024  # of patches in a block: enough for the product, and few enough for the cache


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
    return concrete and inside and not any(map(_is_placed, (x, kernel)))


def plain_conv2d(
    x: Float[Array, "n h w c"], kernel: Float[Array, "fh fw c c_out"], *, pairs: Pairs
) -> Float[Array, "n oh ow c_out"]:
    """Convolves (N, H, W, C) with (H, W, C, C_out) after zero padding by (low, high) pairs.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.cpu_conv import plain_conv2d
    >>> plain_conv2d(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 8)), pairs=((1, 1), (0, 0))).shape
    (1, 4, 2, 8)
    """
    sizes = zip(x.shape[1:3], kernel.shape[:2], pairs, strict=True)
    outputs = [n + low + high - f + 1 for n, f, (low, high) in sizes]
    shapes = (x.shape, kernel.shape, (x.shape[0], *outputs, kernel.shape[-1]))
    return _conv_p.bind(x, kernel, wanted=_Y, shapes=shapes, pairs=pairs, mapped=(False, False))


def _is_placed(x: Array) -> bool:
    return any(kind != AxisType.Auto for kind in jax.typeof(x).sharding.mesh.axis_types)


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


def _by_patches(a: Array, b: Array, *, wanted: int, shapes: tuple, pairs: Pairs) -> Array:
    window = shapes[_KERNEL][:2]
    if wanted == _KERNEL:
        return _kernel_gradient(a, b, window, pairs)
    if wanted == _Y:
        return _forward(a, b, pairs)
    flipped = jnp.flip(a, (0, 1)).swapaxes(2, 3)
    return _forward(
        b, flipped, tuple((f - 1 - p, f - 1 - q) for f, (p, q) in zip(window, pairs, strict=True))
    )


def _forward(x: Array, kernel: Array, pairs: Pairs) -> Array:
    matrix = kernel.reshape(-1, kernel.shape[-1])
    run = lambda block: _patches(block, kernel.shape[:2], pairs) @ matrix
    blocks = _blocks(x, kernel.shape[:2], pairs)
    y = lax.map(run, blocks) if len(blocks) > 1 else run(blocks[0])[None]
    return y.reshape(x.shape[0], *y.shape[2:])


def _kernel_gradient(x: Array, y: Array, window: tuple, pairs: Pairs) -> Array:
    def add(total: Array, block: tuple) -> tuple[Array, None]:
        patches = _patches(block[0], window, pairs)
        return total + jnp.tensordot(patches, block[1], ((0, 1, 2), (0, 1, 2))), None

    blocks = _blocks(x, window, pairs)
    ys = y.reshape(*blocks.shape[:2], *y.shape[1:])
    zero = jnp.zeros((math.prod(window) * x.shape[-1], y.shape[-1]), y.dtype)
    total, _ = lax.scan(add, zero, (blocks, ys))
    return total.reshape(*window, x.shape[-1], y.shape[-1])


def _patches(x: Array, window: tuple, pairs: Pairs) -> Array:
    """Returns (N, H, W, C) as patches (N, OH, OW, fh × fw × C)."""
    x = jnp.pad(x, ((0, 0), *pairs, (0, 0)))
    h, w = (n - f + 1 for n, f in zip(x.shape[1:3], window, strict=True))
    return jnp.concatenate(
        [x[:, i : i + h, j : j + w] for i in range(window[0]) for j in range(window[1])], -1
    )


def _blocks(x: Array, window: tuple, pairs: Pairs) -> Array:
    """Splits the batch evenly into blocks of images, of about _ROWS patches each."""
    n, h, w, c = x.shape
    rows = math.prod(
        size + sum(pair) - f + 1 for size, f, pair in zip((h, w), window, pairs, strict=True)
    )
    most = max(1, _ROWS // rows)
    size = next(d for d in range(min(n, most), 0, -1) if n % d == 0)
    return x.reshape(n // size, size, h, w, c)


def _by_a_column_more(a: Array, b: Array, *, wanted: int, shapes: tuple, pairs: Pairs) -> Array:
    """Returns the output cut from a wider one: XLA takes another way where there is no padding."""
    top, (left, right) = pairs
    _, height, width, outputs = shapes[_Y]
    wider = (*shapes[:_Y], (shapes[_X][0], height, width + 1, outputs))
    return _stock(a, b, wanted=wanted, shapes=wider, pairs=(top, (left, right + 1)))[:, :, :-1]


def _way_on_cpu(wanted: int, shapes: tuple, pairs: Pairs) -> Callable:
    """Returns the way that takes least time on a CPU.

    Factors of time won over XLA's, measured with jaxlib 0.10.2 on two cores with AVX-512: a window
    larger than what it slides over, 5 to 80; the output unpadded, 1 to 2.7, or of one channel, 1.3
    to 2; the kernel's gradient unpadded, 1.3 to 3, 1×1, 2 to 6, and on large maps, 1.1 to 2.
    Elsewhere XLA's is as fast or up to 3 times faster.
    """
    maps = [shape[1:3] for shape in shapes]
    window = maps[_Y] if wanted == _KERNEL else shapes[_KERNEL][:2]
    if any(f > n for f, n in zip(window, maps[_Y if wanted == _X else _X], strict=True)):
        return _by_patches
    channels, outputs = shapes[_KERNEL][2:]
    unpadded = not any(map(any, pairs))
    if wanted == _KERNEL:
        large = channels >= 16 and math.prod(maps[_Y]) > 1024
        return _by_patches if large or (unpadded and channels > 1) else _stock
    if wanted == _Y and channels == 1 and outputs <= 16:
        return _by_patches
    if wanted == _Y and unpadded and channels >= 16 and math.prod(window) > 1:
        return _by_a_column_more
    return _stock


# The primitive. Its operands are those of (x, kernel, y) that are not wanted, in this order; those
# `mapped` have a leading axis of members, as the result then has.


def _compute(rule: Callable, *operands: Array, mapped: tuple, **parameters: Any) -> Array:
    run = partial(rule, **parameters)
    if any(mapped):
        run = jax.vmap(run, [0 if m else None for m in mapped])
    return run(*operands)


def _compute_on_cpu(*operands: Array, mapped: tuple, **parameters: Any) -> Array:
    # XLA turns a convolution with many kernels into a grouped one, which is slow.
    way = _by_patches if any(mapped) else _way_on_cpu(**parameters)
    return _compute(way, *operands, mapped=mapped, **parameters)


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
