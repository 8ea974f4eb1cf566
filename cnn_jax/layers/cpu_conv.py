"""How the primitive of `conv_primitive` is computed: in its own way on a CPU.

`fits` takes float32 images and volumes, and sequences only with groups. On other platforms, and for
many shapes on a CPU, the lowering is XLA's own convolution; `_way_on_cpu` chooses.

The alternatives are matrix products: with patches (`cpu_patches`) and, in fewer multiplications, by
Winograd's method (`cpu_winograd`); over blocks of images where a block in cache is faster. The
smallest kernels are summed tap by tap. Others are faster by XLA's convolution in one dimension,
along rows, or with extra rows that are dropped. Convolutions with strides or dilation
(`cpu_phases`) and with groups (`cpu_groups`) are made of such without, those of volumes and
sequences of such of images (`cpu_planes`).
"""

import itertools
import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import mlir
from jaxtyping import Array, Float

from cnn_jax.layers import cpu_groups, cpu_patches, cpu_phases, cpu_planes, cpu_winograd
from cnn_jax.layers.arithmetic import Pairs
from cnn_jax.layers.conv_primitive import (
    KERNEL,
    Geometry,
    X,
    Y,
    conv_p,
    convolve,
    turned,
)
from cnn_jax.layers.cpu_fence import computed_once
from cnn_jax.layers.placement import is_placed

_CACHED_ROWS = 1 << 23  # numbers that images with a window's rows side by side may be
_FEW_TERMS = 576  # of a kernel that is summed tap by tap, 16 outputs in a register
_MOST_TAPS = 128  # of a depthwise kernel: each is compiled on its own


def fits(x: Float[Array, "..."], kernel: Float[Array, "..."], geometry: Geometry) -> bool:
    """Tells whether `convolve_fenced` takes these operands in this geometry.

    Neither arrays mapped by `shard_map`, nor those with explicit shardings, nor symbolic shapes are
    taken: XLA's convolution knows how to hand those properties on.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.cpu_conv import Geometry, fits
    >>> fits(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 8)), Geometry(((1, 1), (1, 1))))
    True
    """
    pairs, strides, groups, dilations = geometry
    if (x.ndim == 3 and groups == 1) or not x.dtype == kernel.dtype == jnp.float32:
        return False
    concrete = all(isinstance(n, int) and n > 0 for n in (*x.shape, *kernel.shape))
    sides = zip(kernel.shape[:-2], pairs, dilations, strict=True)
    inside = all(0 <= p <= (f - 1) * d for f, pair, d in sides for p in pair)
    either = 1 in (math.prod(strides), math.prod(dilations))
    return concrete and inside and either and not any(map(is_placed, (x, kernel)))


def convolve_fenced(
    x: Float[Array, "n *spatial _"], kernel: Float[Array, "*window _ c_out"], geometry: Geometry
) -> Float[Array, "n *out c_out"]:
    """Convolves (N, *spatial, C) with (*window, C / groups, C_out).

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.cpu_conv import Geometry, convolve_fenced
    >>> geometry = Geometry(pairs=((1, 1), (0, 0)), strides=(1, 2))
    >>> convolve_fenced(jnp.ones((1, 4, 5, 3)), jnp.ones((3, 3, 3, 8)), geometry).shape
    (1, 4, 2, 8)
    """
    if math.prod(kernel.shape[:-2]) > 1:
        x = computed_once(x)  # not once for each of the places that a patch takes it to
    return convolve(x, kernel, geometry)


# Ways to compute the three derivatives.


def _derived(
    forward: Callable, a: Array, b: Array, *, wanted: int, shapes: tuple, geometry: Geometry
) -> Array:
    """Returns the derivative of Σ y · forward(x, kernel, geometry=geometry) by what is wanted."""
    conv = partial(forward, geometry=geometry)
    if wanted == Y:
        return conv(a, b)
    if wanted == X:
        linear, y = (lambda x: conv(x, a)), b
    else:
        linear, y = (lambda kernel: conv(a, kernel)), b
    (result,) = jax.linear_transpose(linear, jax.ShapeDtypeStruct(shapes[wanted], y.dtype))(y)
    return result


def _xla(x: Array, kernel: Array, *, geometry: Geometry) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        geometry.pairs,
        rhs_dilation=geometry.dilations,
        dimension_numbers=geometry.dimension_numbers,
        feature_group_count=geometry.groups,
    )


_stock = partial(_derived, _xla)
_by_groups = partial(_derived, partial(cpu_groups.by_groups, convolve))
_by_planes = partial(_derived, partial(cpu_planes.by_planes, convolve_fenced))
_as_row = partial(_derived, partial(cpu_planes.as_row, convolve_fenced))

_unpadded = partial(convolve, geometry=Geometry(((0, 0), (0, 0))))
_by_phases = partial(_derived, partial(cpu_phases.by_phases, _unpadded))
_by_folding = partial(_derived, partial(cpu_phases.by_folding, _unpadded))
_dilated = partial(_derived, partial(cpu_phases.dilated, _unpadded))


def _depthwise(a: Array, b: Array, *, wanted: int, shapes: tuple, geometry: Geometry) -> Array:
    pairs, strides, channels, dilations = geometry
    moved = strides == dilations == (1, 1)
    if wanted == X and moved and shapes[Y][-1] == channels:  # turned, faster by far
        back = geometry._replace(pairs=turned(shapes[KERNEL][:2], pairs))
        return cpu_groups.depthwise(b, jnp.flip(a, (0, 1)), geometry=back)
    what = {"wanted": wanted, "shapes": shapes, "geometry": geometry}
    return _derived(cpu_groups.depthwise, a, b, **what)


def _by_products(
    module: Any, a: Array, b: Array, *, wanted: int, shapes: tuple, geometry: Geometry
) -> Array:
    run = (module.input_gradient, module.kernel_gradient, module.forward)[wanted]
    return run(a, b, geometry.pairs)


_in_steps = partial(_derived, cpu_patches.strided)
_by_patches = partial(_by_products, cpu_patches)
_by_winograd = partial(_by_products, cpu_winograd)


def _as_product(a: Array, b: Array, *, wanted: int, shapes: tuple, geometry: Geometry) -> Array:
    """Returns the derivative of a convolution whose window is one pixel, which mixes channels."""
    (rows, columns), (_, height, width, _) = geometry.strides, shapes[X]
    if wanted == X:
        x = jnp.tensordot(b, a[0, 0], (3, 1))
        ends = [(n - 1) % s for n, s in ((height, rows), (width, columns))]
        widened = [(0, 0, 0), (0, ends[0], rows - 1), (0, ends[1], columns - 1), (0, 0, 0)]
        return lax.pad(x, jnp.zeros((), x.dtype), widened)
    a = a[:, ::rows, ::columns]
    if wanted == KERNEL:
        return jnp.tensordot(a, b, ((0, 1, 2), (0, 1, 2)))[None, None]
    return jnp.tensordot(a, b[0, 0], 1)


def _by_extra_rows(a: Array, b: Array, *, wanted: int, shapes: tuple, geometry: Geometry) -> Array:
    """Computes extra rows of an output, or of an input's gradient, and drops them.

    With padding larger than the window less one XLA leaves the convolution to Eigen, which uses all
    threads, not to YNNPACK, which mostly uses one.
    """
    (top, bottom), sides = geometry.pairs
    (n, height, *others), fh = shapes[wanted], shapes[KERNEL][0]
    padding = top + bottom if wanted == Y else 2 * (fh - 1) - top - bottom
    extra = max(1, fh - padding)
    taller = [*shapes[:wanted], (n, height + extra, *others), *shapes[wanted + 1 :]]
    geometry = Geometry(((top, bottom + (extra if wanted == Y else -extra)), sides))
    return _stock(a, b, wanted=wanted, shapes=tuple(taller), geometry=geometry)[:, :height]


def _along_rows(a: Array, b: Array, *, wanted: int, shapes: tuple, geometry: Geometry) -> Array:
    rows = _rows_gathered if wanted == Y else _rows
    conv = partial(_convolve_rows, rows=rows)
    return _derived(conv, a, b, wanted=wanted, shapes=shapes, geometry=geometry)


def _convolve_rows(x: Array, kernel: Array, *, geometry: Geometry, rows: Callable) -> Array:
    """Convolves in one dimension, the window's rows side by side."""
    pairs, (fh, fw, channels, outputs) = geometry.pairs, kernel.shape
    height, width = cpu_patches.output_sizes(x.shape, (fh, fw), pairs)
    x = jnp.pad(x, ((0, 0), *pairs, (0, 0)))
    y = lax.conv_general_dilated(
        rows(x, height, fh).reshape(len(x), -1, fh * channels),
        kernel.swapaxes(0, 1).reshape(fw, -1, outputs),
        (1,),
        ((0, fw - 1),),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    return y.reshape(len(x), height, -1, outputs)[:, :, :width]


def _rows(x: Array, height: int, fh: int) -> Array:
    """Returns the rows that each row of the output sees as channels, (N, OH, W, fh × C)."""
    return jnp.concatenate([x[:, i : i + height] for i in range(fh)], -1)


def _rows_gathered(x: Array, height: int, fh: int) -> Array:
    """Returns the same as (N, OH, W, fh, C); not to be transposed."""
    seen = sum(lax.broadcasted_iota(jnp.int32, (height, fh), axis) for axis in range(2))
    return x.at[:, seen].get(mode="promise_in_bounds").swapaxes(2, 3)


def _sum_taps(x: Array, kernel: Array, *, geometry: Geometry) -> Array:
    """Convolves as a sum over taps and channels, which needs no patches."""
    pairs, (fh, fw, channels, _) = geometry.pairs, kernel.shape
    height, width = cpu_patches.output_sizes(x.shape, (fh, fw), pairs)
    if any(map(any, pairs)):
        x = computed_once(jnp.pad(x, ((0, 0), *pairs, (0, 0))))
    terms = (
        x[:, i : i + height, j : j + width, c : c + 1] * kernel[None, i : i + 1, j : j + 1, c]
        for i, j, c in itertools.product(range(fh), range(fw), range(channels))
    )
    return computed_once(reduce(jnp.add, terms))


_by_taps = partial(_derived, _sum_taps)


def _way_on_cpu(wanted: int, shapes: tuple, geometry: Geometry) -> Callable:
    """Returns the way that takes least time on a CPU.

    Measured with jaxlib 0.10.2 on two cores with AVX-512, as factors of time won over XLA's
    convolution. Groups: 2 to 9, the kernel's gradient 10 to 500; depthwise: 20 to 170, the kernel's
    gradient 9 to 17. One pixel as a product: 1 to 3, the kernel's gradient with strides 5 to 11.
    Strides by folding, without zeros or to 3×3: 1.2 to 2, the kernel's gradient 2 to 11; by phases:
    the kernel's gradient 1.1 to 5, the input's 1 to 2; in steps: the output 1 to 1.9. Dilation: 1
    to 1.8, the kernel's gradient 4 to 5. Volumes: 3 to 30, with strides or groups up to 800;
    sequences with groups: 1.3 to 70.
    """
    window = shapes[KERNEL][:-2]
    if len(window) != 2:
        return _by_planes if len(window) == 3 else _as_row
    if geometry.groups > 1 and shapes[KERNEL][2] == 1:
        return _depthwise if math.prod(window) <= _MOST_TAPS else _stock
    if geometry.groups > 1:
        return _by_groups
    if window == (1, 1):
        return _as_product
    if geometry.dilations != (1, 1):
        return _dilated
    if geometry.strides == (1, 1):
        return _plain_way_on_cpu(wanted, shapes, geometry.pairs)
    folded = tuple(-(-f // s) for f, s in zip(window, geometry.strides, strict=True))
    tiled = folded == (3, 3) and cpu_winograd.suits(shapes[Y][1:3])
    if window == geometry.strides or (tiled and cpu_patches.few(*shapes[KERNEL][2:])):
        return _by_folding
    if wanted != Y:
        return _by_phases
    return _in_steps if cpu_patches.suits(shapes[KERNEL]) else _stock


def _plain_way_on_cpu(wanted: int, shapes: tuple, pairs: Pairs) -> Callable:
    """Returns the same where windows are larger than a pixel and move by one.

    Measured with jaxlib 0.10.2 on two cores with AVX-512, as factors of time won over XLA's
    convolution. Patches: a window larger than what it slides over, 5 to 80, as large, 1.2 to 3; few
    channels or few outputs, 1.2 to 10; small unpadded images, whose rows would lose much, 1.3 over
    those along rows; the kernel's gradient unpadded, 1.3 to 5, and of many channels, 1 to 3. Tap by
    tap, where taps, channels and outputs are few: 1.2 to 2.8 over patches. Winograd's: the kernel's
    gradient, 1 to 8; the output, 1 to 5; the input's gradient padded, 1 to 3, unpadded and of many
    channels, 1 to 2. Along rows: the output unpadded and wider than the input, 1.3 to 3, the
    input's gradient unpadded or of five rows, 1 to 2. Extra rows, measured with AVX2: what else XLA
    computes in one thread, 1.2 to 3. Elsewhere XLA's is as fast, or up to 3 times faster.
    """
    maps = [shape[1:3] for shape in shapes]
    window = maps[Y] if wanted == KERNEL else shapes[KERNEL][:2]
    sides = list(zip(window, maps[Y if wanted == X else X], strict=True))
    if any(f > n for f, n in sides) or (wanted != KERNEL and all(f == n for f, n in sides)):
        return _by_patches
    channels, outputs = shapes[KERNEL][2:]
    few = cpu_patches.few(channels, outputs)
    tiled = shapes[KERNEL][:2] == (3, 3) and cpu_winograd.suits(maps[Y])
    unpadded = not any(map(any, pairs))
    if wanted == KERNEL:
        widened = few and outputs >= 4 * channels
        if tiled and not widened and channels * outputs >= 32:
            return _by_winograd
        inside = all(f <= n for f, n in zip(shapes[KERNEL][:2], maps[Y], strict=True))
        many = inside and channels * outputs >= 512
        return _by_patches if unpadded or many or widened else _stock
    filled = cpu_winograd.suits(maps[Y], most=1.35) and not (wanted == X and unpadded)
    if tiled and min(channels, outputs) >= (32 if filled else 128):
        return _by_winograd
    if wanted == Y and outputs % 16 == 0 and math.prod(shapes[KERNEL]) <= _FEW_TERMS:
        return _by_taps
    if few:
        return _by_patches
    if wanted == X and _rows_suit(shapes, unpadded):
        return _along_rows
    if wanted == Y and unpadded and outputs > channels >= 16:
        dropped = shapes[X][2] >= 1.25 * shapes[Y][2]  # a fifth of what is computed along rows
        return _by_patches if dropped and cpu_patches.suits(shapes[KERNEL]) else _along_rows
    return _by_extra_rows if _has_one_thread(wanted, shapes, pairs) else _stock


def _has_one_thread(wanted: int, shapes: tuple, pairs: Pairs) -> bool:
    """Tells whether XLA leaves a convolution to YNNPACK, and so to one thread, save large ones."""
    window = shapes[KERNEL][:2]
    pairs = turned(window, pairs) if wanted == X else pairs
    inside = all(sum(pair) < f for f, pair in zip(window, pairs, strict=True))
    return inside and max(shapes[KERNEL][2:]) > 16


def _rows_suit(shapes: tuple, unpadded: bool) -> bool:
    """Tells whether an input's gradient is fast along rows, which are to stay in cache."""
    (n, *_, channels), (fh, fw, *_), (_, height, width, _) = shapes
    small = n * height * (width + fw - 1) * fh * channels <= _CACHED_ROWS
    return min(fh, fw) >= (3 if unpadded else 5) and fh * channels >= 64 and small


# The lowerings.


def _compute(rule: Callable, *operands: Array, mapped: tuple, **parameters: Any) -> Array:
    run = partial(rule, **parameters)
    if any(mapped):
        run = jax.vmap(run, [0 if m else None for m in mapped])
    return run(*operands)


def _compute_on_cpu(*operands: Array, mapped: tuple, **parameters: Any) -> Array:
    if not parameters["shapes"][X][0]:  # a map over no images
        return _compute(_stock, *operands, mapped=mapped, **parameters)
    way, geometry = _way_on_cpu(**parameters), parameters["geometry"]
    if not any(mapped):
        return way(*operands, **parameters)
    # XLA's own are slow both with many kernels, as a grouped convolution, and inside a loop.
    if not geometry.is_plain or way in (_as_product, _by_taps, _by_planes):
        unmapped = way is _in_steps or (way is _stock and geometry.groups == 1)
        way = _by_phases if unmapped else way
        return _compute(way, *operands, mapped=mapped, **parameters)
    way = _by_winograd if way is _by_winograd else _by_patches
    x, kernel, _ = parameters["shapes"]
    members = len(operands[mapped.index(True)])
    room = cpu_patches.images_in_cache(x, kernel, geometry.pairs)
    if way is _by_patches and members * x[0] <= room:
        return _compute(way, *operands, mapped=mapped, **parameters)

    def member(i: Array) -> Array:
        pairs = zip(operands, mapped, strict=True)
        return way(*(computed_once(x[i]) if m else x for x, m in pairs), **parameters)

    return lax.map(member, jnp.arange(members))


mlir.register_lowering(conv_p, mlir.lower_fun(partial(_compute, _stock), multiple_results=False))
mlir.register_lowering(
    conv_p, mlir.lower_fun(_compute_on_cpu, multiple_results=False), platform="cpu"
)
