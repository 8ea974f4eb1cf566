"""Convolution as a matrix product with patches of the image, for a CPU.

Where there are few channels a patch is short and the product slow. Then a patch takes in a band of
neighbouring outputs, and the matrix holds the kernel once for each of them, shifted: more is
multiplied than need be, but by a product of a kind shape and with less to copy.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.layers.arithmetic import Pairs
from cnn_jax.layers.conv_primitive import Geometry
from cnn_jax.layers.cpu_fence import computed_once

_FEW = 8  # channels, of input or output: below, bands
_CACHED = 5 << 18  # numbers that the patches of a block may be, to stay in cache


def forward(
    x: Float[Array, "n h w c"], kernel: Float[Array, "fh fw c c_out"], pairs: Pairs
) -> Float[Array, "n oh ow c_out"]:
    """Convolves images with a kernel after zero padding, with stride 1.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers import cpu_patches
    >>> cpu_patches.forward(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 8)), ((0, 0), (0, 0))).shape
    (1, 2, 2, 8)
    """
    most = images_in_cache(x.shape, kernel.shape, pairs)
    return map_blocks(lambda block: _convolve(block, kernel, pairs, _gathered), x, most=most)


def strided(
    x: Float[Array, "n h w c"], kernel: Float[Array, "fh fw c c_out"], geometry: Geometry
) -> Float[Array, "n oh ow c_out"]:
    """Convolves images with a kernel after zero padding, with any strides.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers import cpu_patches
    >>> from cnn_jax.layers.conv_primitive import Geometry
    >>> geometry = Geometry(((0, 0), (0, 0)), strides=(2, 2))
    >>> cpu_patches.strided(jnp.ones((1, 5, 5, 3)), jnp.ones((3, 3, 3, 8)), geometry).shape
    (1, 2, 2, 8)
    """
    (fh, fw, channels, _), (rows, columns) = kernel.shape, geometry.strides
    sizes = tuple(geometry.output_sizes(x.shape, (fh, fw)))

    def run(block: Array) -> Array:
        block = _padded(block, geometry.pairs)
        patches = _cut(block, sizes, (rows, columns * channels), fh, fw * channels)
        matrix = kernel.reshape(patches.shape[-1], -1)
        y = patches.reshape(-1, len(matrix)) @ matrix
        return y.reshape(len(block), *sizes, -1)

    return map_blocks(run, x, most=_CACHED // math.prod((*sizes, *kernel.shape[:3])))


def suits(kernel: Sequence) -> bool:
    """Tells whether patches for a kernel (fh, fw, C, C_out) are quickly had: rows in one piece.

    >>> from cnn_jax.layers.cpu_patches import suits
    >>> suits((3, 3, 64, 128)), suits((3, 3, 3, 64))
    (True, False)
    """
    return not few(*kernel[2:]) and _in_vectors(kernel[1] * kernel[2])


def input_gradient(
    kernel: Float[Array, "fh fw c c_out"], y: Float[Array, "n oh ow c_out"], pairs: Pairs
) -> Float[Array, "n h w c"]:
    """Returns the derivative of Σ y · conv(x, kernel) by x."""
    sizes = zip(y.shape[1:3], kernel.shape[:2], pairs, strict=True)
    image = (*(n + f - 1 - low - high for n, f, (low, high) in sizes), kernel.shape[2])

    def run(block: Array) -> Array:
        images = jax.ShapeDtypeStruct((len(block), *image), block.dtype)
        convolve = lambda x: _convolve(x, kernel, pairs, partial(_patches, fence=computed_once))
        return jax.linear_transpose(convolve, images)(block)[0]

    return map_blocks(run, y, most=images_in_cache((len(y), *image), kernel.shape, pairs))


def kernel_gradient(
    x: Float[Array, "n h w c"], y: Float[Array, "n oh ow c_out"], pairs: Pairs
) -> Float[Array, "fh fw c c_out"]:
    """Returns the derivative of Σ y · conv(x, kernel) by the kernel."""
    window = output_sizes(x.shape, y.shape[1:3], pairs)  # the outputs slide over it as it did
    shape = (*window, x.shape[-1], y.shape[-1])
    band = _band(*shape[2:])

    short = shape[0] * (band + shape[1] - 1) * shape[2] < 2 * band * shape[3]

    def run(x: Array, y: Array) -> Array:
        y = jnp.pad(y, ((0, 0), (0, 0), (0, -y.shape[2] % band), (0, 0)))
        y = y.reshape(-1, band * y.shape[-1])
        # XLA transposes the first operand: short patches are cut so, else the outputs are smaller.
        if short:
            return _places(x, window, pairs, band) @ y
        patches = _gathered(x, window, pairs, band)
        return jnp.tensordot(y, patches.reshape(len(y), -1), (0, 0)).T

    total = sum_blocks(run, (x, y), most=images_in_cache(x.shape, shape, pairs))
    unbanded = jax.linear_transpose(
        lambda kernel: _banded(kernel, band), jax.ShapeDtypeStruct(shape, x.dtype)
    )
    return unbanded(total)[0]


def few(channels: int, outputs: int) -> bool:
    """Tells whether patches take in bands of outputs.

    >>> from cnn_jax.layers.cpu_patches import few
    >>> few(3, 64)
    True
    """
    return min(channels, outputs) < _FEW


def output_sizes(shape: Sequence, window: Sequence, pairs: Pairs) -> list[int]:
    """Returns height and width of the convolution of (N, H, W, C) images.

    >>> from cnn_jax.layers.cpu_patches import output_sizes
    >>> output_sizes((1, 4, 5, 3), (3, 3), ((1, 1), (0, 0)))
    [4, 3]
    """
    sizes = zip(shape[1:3], window, pairs, strict=True)
    return [n + low + high - f + 1 for n, f, (low, high) in sizes]


def images_in_cache(shape: Sequence, kernel: Sequence, pairs: Pairs) -> int:
    """Returns of how many images (N, H, W, C) the patches stay in cache.

    >>> from cnn_jax.layers.cpu_patches import images_in_cache
    >>> images_in_cache((64, 32, 32, 16), (3, 3, 16, 16), ((1, 1), (1, 1)))
    8
    """
    fh, fw, channels, outputs = kernel
    height, width = output_sizes(shape, (fh, fw), pairs)
    band = _band(channels, outputs)
    most = 2 * _CACHED if band > 1 else _CACHED
    return most // (height * math.ceil(width / band) * fh * (band + fw - 1) * channels)


def map_blocks(run: Callable, x: Array, *, most: int) -> Array:
    """Returns run(x), computed over blocks of at most so many of the images, of equal size."""
    blocks = _blocks(x, most)
    if len(blocks) == 1:
        return run(x)
    y = lax.map(run, blocks)
    return y.reshape(len(x), *y.shape[2:])


def sum_blocks(run: Callable, arrays: tuple, *, most: int) -> Array:
    """Returns run(*arrays), which sums over images, summed over blocks of at most so many."""
    blocks = [_blocks(x, most) for x in arrays]
    if len(blocks[0]) == 1:
        return run(*arrays)
    zero = jnp.zeros_like(jax.eval_shape(run, *(x[0] for x in blocks)))
    return lax.scan(lambda total, block: (total + run(*block), None), zero, tuple(blocks))[0]


def _blocks(x: Array, most: int) -> Array:
    size = next(d for d in range(min(len(x), max(1, most)), 0, -1) if len(x) % d == 0)
    return x.reshape(-1, size, *x.shape[1:])


def _band(channels: int, outputs: int) -> int:
    """Returns how many outputs beside each other a patch is for."""
    if not few(channels, outputs):
        return 1
    return 4 if outputs < 16 else 2


def _banded(kernel: Array, band: int) -> Array:
    """Returns the matrix (fh × (band + fw - 1) × C, band × C_out) that a patch is multiplied by."""
    shifted = [jnp.pad(kernel, ((0, 0), (v, band - 1 - v), (0, 0), (0, 0))) for v in range(band)]
    return jnp.stack(shifted, axis=3).reshape(-1, band * kernel.shape[-1])


def _convolve(x: Array, kernel: Array, pairs: Pairs, patches: Callable) -> Array:
    band, outputs = _band(*kernel.shape[2:]), kernel.shape[-1]
    height, width = output_sizes(x.shape, kernel.shape[:2], pairs)
    y = patches(x, kernel.shape[:2], pairs, band) @ _banded(kernel, band)
    return y.reshape(len(x), height, -1, outputs)[:, :, :width]


def _patches(
    x: Array, window: Sequence, pairs: Pairs, band: int, fence: Callable = lambda rows: rows
) -> Array:
    """Returns (N, H, W, C) as patches (N, OH, bands of outputs, fh × (band + fw - 1) × C).

    A fence between a patch's rows and the patches makes two sums of the derivative's one.
    """
    n, _, w, c = x.shape
    height, width = output_sizes(x.shape, window, pairs)
    count, length = math.ceil(width / band), band + window[1] - 1
    pieces, low = math.ceil(length / band), pairs[1][0]
    right = (count + pieces - 1) * band - w - low
    x = jnp.pad(x, ((0, 0), pairs[0], (low, right), (0, 0)))
    cuts = [x[:, :, j * band : (j + count) * band] for j in range(pieces)]
    cuts = [cut.reshape(n, x.shape[1], count, band * c) for cut in cuts]
    rows = fence(jnp.concatenate(cuts, -1)[..., : length * c])
    return jnp.concatenate([rows[:, i : i + height] for i in range(window[0])], -1)


def _gathered(x: Array, window: Sequence, pairs: Pairs, band: int) -> Array:
    """Returns the same patches, of which each row is copied in one piece.

    Not to be transposed: the gradient of a gather is a scatter.
    """
    c = x.shape[-1]
    length = (band + window[1] - 1) * c
    if not _in_vectors(length):
        return _patches(x, window, pairs, band)
    height, width = output_sizes(x.shape, window, pairs)
    count, (left, right) = math.ceil(width / band), pairs[1]
    x = _padded(x, (pairs[0], (left, right + count * band - width)))
    return _cut(x, (height, count), (1, band * c), window[0], length)


def _in_vectors(length: int) -> bool:
    """Tells whether XLA gathers so many neighbours in vectors, and not number by number."""
    return length % 8 == 0 or length in (4, 12)


def _padded(x: Array, pairs: Pairs) -> Array:
    return computed_once(jnp.pad(x, ((0, 0), *pairs, (0, 0)))) if any(map(any, pairs)) else x


def _cut(x: Array, sizes: tuple[int, int], steps: tuple[int, int], rows: int, length: int) -> Array:
    """Returns patches (N, *sizes, rows × length) that begin so many rows and numbers apart."""
    down, across, row = (lax.broadcasted_iota(jnp.int32, (*sizes, rows), axis) for axis in range(3))
    patches = lax.gather(
        x.reshape(*x.shape[:2], -1),
        jnp.stack([down * steps[0] + row, across * steps[1]], -1),
        lax.GatherDimensionNumbers((0, 4), (1,), (1, 2)),
        (len(x), 1, length),
        mode="promise_in_bounds",
    )
    return patches.reshape(len(x), *sizes, -1)


def _places(x: Array, window: Sequence, pairs: Pairs, band: int) -> Array:
    """Returns the same patches transposed, (fh × (band + fw - 1) × C, N × OH × bands)."""
    height, width = output_sizes(x.shape, window, pairs)
    count, (left, right) = math.ceil(width / band), pairs[1]
    x = jnp.pad(x, ((0, 0), pairs[0], (left, right + count * band - width), (0, 0)))
    x = jnp.moveaxis(x, 3, 0)
    columns = range(band + window[1] - 1)
    rows = jnp.concatenate([x[..., j : j + count * band : band] for j in columns])
    rows = computed_once(rows)  # picked out once, then copied in whole rows
    places = jnp.concatenate([rows[:, :, i : i + height] for i in range(window[0])])
    return places.reshape(len(places), -1)
