"""Convolution with 3×3 kernels by Winograd's minimal filtering, F(4×4, 3×3), for a CPU.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4.3: the output
comes in tiles of 4×4, each from a piece of 6×6 of the image. Pieces and kernel are transformed in
both dimensions; there the convolution is a product over channels alone, at each of 36 places, with
a quarter of the multiplications. The kernel's gradient is such a product too, over tiles.
Rounding errors are about ten times those of the direct sum.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.layers.arithmetic import Pairs
from cnn_jax.layers.conv_primitive import turned
from cnn_jax.layers.cpu_patches import map_blocks, output_sizes, sum_blocks

_TILE = 4
_TILES = 256  # in a block of a sum at the least: enough for the product
_CACHED = 1 << 14  # tiles × channels in such a block, where that is more: few enough for the cache
_FEW = 32  # channels: below, XLA's loops over channels alone are slow
_ROOM = 1 << 20  # tiles × channels at once elsewhere, which only memory bounds: 36 × 4 MiB

# Sums along one dimension: of a piece of the image, of the kernel, of products for the output.
_OF_IMAGE = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_OF_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OF_PRODUCT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)
_OF_OUTPUT = tuple(zip(*_OF_PRODUCT, strict=True))  # the transposes, for the gradient


def suits(sizes: Sequence, *, most: float = 1.6) -> bool:
    """Tells whether tiles are less than `most` times as large as the output that they cover.

    >>> from cnn_jax.layers.cpu_winograd import suits
    >>> [n for n in range(1, 17) if suits((n, n))]
    [4, 7, 8, 10, 11, 12, 13, 14, 15, 16]
    """
    return _count(sizes) * _TILE**2 < most * math.prod(sizes)


def forward(
    x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c c_out"], pairs: Pairs
) -> Float[Array, "n oh ow c_out"]:
    """Convolves images with a 3×3 kernel after zero padding, with stride 1.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers import cpu_winograd
    >>> y = cpu_winograd.forward(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 2)), ((0, 0), (0, 0)))
    >>> y.shape, round(float(y[0, 0, 0, 0]), 4)
    ((1, 6, 6, 2), 27.0)
    """
    return _convolve(x, kernel, pairs, contract=1)


def input_gradient(
    kernel: Float[Array, "3 3 c c_out"], y: Float[Array, "n oh ow c_out"], pairs: Pairs
) -> Float[Array, "n h w c"]:
    """Returns the derivative of Σ y · conv(x, kernel) by x: y convolved with the kernel turned."""
    return _convolve(y, jnp.flip(kernel, (0, 1)), turned((3, 3), pairs), contract=2)


def kernel_gradient(
    x: Float[Array, "n h w c"], y: Float[Array, "n oh ow c_out"], pairs: Pairs
) -> Float[Array, "3 3 c c_out"]:
    """Returns the derivative of Σ y · conv(x, kernel) by the kernel."""
    sizes = y.shape[1:3]

    def run(x: Array, y: Array) -> Array:
        room = [(0, -n % _TILE) for n in sizes]
        y = jnp.pad(y, ((0, 0), *room, (0, 0)))
        pieces = _sums(_OF_OUTPUT, y, sizes)
        return _batched(_image_tiles(x, sizes, pairs), pieces, contract=(1, 1))

    tiles = max(_TILES, _CACHED // max(x.shape[-1], y.shape[-1]))
    most = max(2, tiles // _count(sizes))
    most = len(x) if len(x) <= 2 * most else most  # a loop of two turns is not worth it
    total = sum_blocks(run, (x, y), most=most)
    return jnp.tensordot(_of_kernel(x.dtype).T, total, 1).reshape(3, 3, *total.shape[1:])


def _convolve(x: Array, kernel: Array, pairs: Pairs, *, contract: int) -> Array:
    """Convolves x with a kernel whose channels are its third axis or, to `contract` 2, its last."""
    sizes = output_sizes(x.shape, (3, 3), pairs)
    taps = kernel.reshape(9, *kernel.shape[2:])
    matrices = jnp.tensordot(_of_kernel(x.dtype), taps, 1)

    def run(block: Array) -> Array:
        products = _batched(_image_tiles(block, sizes, pairs), matrices, contract=(2, contract))
        return _outputs(products, len(block), sizes)

    most = _ROOM // (_count(sizes) * max(kernel.shape[2:]))
    return map_blocks(run, x, most=most)


def _of_kernel(dtype: jnp.dtype) -> Array:
    """Returns what transforms a kernel in both dimensions, (36, 9).

    As one product, unlike the transforms of images, which are sums: a kernel has few numbers.
    """
    matrix = jnp.array(_OF_KERNEL, dtype)
    return jnp.kron(matrix, matrix)


def _image_tiles(x: Array, sizes: Sequence, pairs: Pairs) -> Array:
    """Returns the transformed pieces, (36, tiles, C)."""
    room = [
        (low, math.ceil(size / _TILE) * _TILE + 2 - n - low)
        for size, n, (low, _) in zip(sizes, x.shape[1:3], pairs, strict=True)
    ]
    return _sums(_OF_IMAGE, jnp.pad(x, ((0, 0), *room, (0, 0))), sizes)


def _sums(matrix: Sequence, x: Array, sizes: Sequence) -> Array:
    """Returns what `matrix` makes of each piece along both dimensions, (36, pieces, C).

    Across first, for then few channels can be one dimension with the pieces of a row: of a loop
    over 16 numbers LLVM makes straight code, and vectorises over pieces, whose numbers lie apart.
    """
    channels = x.shape[-1]
    down, across = (math.ceil(size / _TILE) for size in sizes)
    places = _places(x, -2, across, len(matrix[0]))
    if channels < _FEW:
        places = [place.reshape(*x.shape[:2], 1, -1) for place in places]
    x = jnp.stack(_combined(matrix, places))
    x = jnp.stack(_combined(matrix, _places(x, -3, down, len(matrix[0]))))
    return x.reshape(36, -1, channels)


def _places(x: Array, axis: int, pieces: int, length: int) -> list[Array]:
    """Returns, for each place along an axis of a piece, what all pieces have there."""
    last = (pieces - 1) * _TILE + 1
    return [lax.slice_in_dim(x, i, i + last, _TILE, x.ndim + axis) for i in range(length)]


def _outputs(products: Array, n: int, sizes: Sequence) -> Array:
    """Returns the images of which the tiles are, (N, OH, OW, C_out), from (36, tiles, C_out)."""
    down, across = (math.ceil(size / _TILE) for size in sizes)
    m = products.reshape(6, 6, n, down, across, products.shape[-1])
    rows = _combined(_OF_PRODUCT, list(m))
    tiles = [jnp.stack(_combined(_OF_PRODUCT, list(row)), axis=3) for row in rows]
    y = jnp.stack(tiles, axis=2).reshape(n, down * _TILE, across * _TILE, m.shape[-1])
    return y[:, : sizes[0], : sizes[1]]


def _combined(matrix: Sequence, parts: Sequence) -> list[Array]:
    """Returns for each row of the matrix the sum of the parts, so weighted."""
    weighted = [
        [weight * part for weight, part in zip(row, parts, strict=True) if weight] for row in matrix
    ]
    return [sum(terms[1:], terms[0]) for terms in weighted]


def _batched(a: Array, b: Array, *, contract: tuple[int, int]) -> Array:
    return lax.dot_general(a, b, (((contract[0],), (contract[1],)), ((0,), (0,))))


def _count(sizes: Sequence) -> int:
    return math.prod(math.ceil(size / _TILE) for size in sizes)
