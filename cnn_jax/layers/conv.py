"""Convolutions over one to three spatial dimensions: channels last, kernels (*window, in, out).

As everywhere in deep learning they are cross-correlations: the kernel is not flipped. Kernels and
biases are cast to the input's dtype, which the output has too.
"""

from collections.abc import Sequence
from functools import partial
from typing import TypedDict, Unpack

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn_jax.layers import cpu_conv, space_to_depth
from cnn_jax.layers.arithmetic import (
    Padding,
    Pairs,
    padding_per_dimension,
    per_dimension,
    transposed_output_size,
    transposed_padding,
    window_padding,
)
from cnn_jax.layers.conv_primitive import Geometry, convolve_transposed
from cnn_jax.layers.linear import add_bias
from cnn_jax.layers.precision import check_floating

Ints = int | Sequence[int]
Bias = Float[Array, "_"] | None


class TransposeOptions(TypedDict, total=False):
    """The options of `conv_transpose`."""

    stride: Ints
    padding: Padding
    dilation: Ints


class DepthwiseOptions(TransposeOptions, total=False):
    """The options of `depthwise_conv2d`."""

    border: str


class ConvOptions(DepthwiseOptions, total=False):
    """The options of `conv`."""

    groups: int


_PAD_MODES = {"edge": "edge", "reflect": "reflect", "circular": "wrap"}


def conv(
    x: Float[Array, "n *spatial _"],
    kernel: Float[Array, "*window _ c_out"],
    bias: Bias = None,
    *,
    stride: Ints = 1,
    padding: Padding = "SAME",
    border: str = "zero",
    dilation: Ints = 1,
    groups: int = 1,
) -> Float[Array, "n *out c_out"]:
    """Convolves (N, *spatial, C_in) with a kernel (*window, C_in / groups, C_out).

    On a CPU an element that is not finite may make more outputs NaN than see it: its neighbours'.

    Args:
        x: the input, with one to three spatial dimensions.
        kernel: the weights.
        bias: one number per output channel, or None.
        stride: steps between windows, one int or one per dimension.
        padding: "SAME" (TensorFlow's and XLA's rule: ceil(n / stride) outputs), "VALID" (none),
            an int for every side, or one (low, high) pair per dimension.
        border: what the padding is filled with: "zero", "edge" (the nearest pixel), "reflect" (the
            image mirrored about its outermost pixel) or "circular" (the opposite side).
        dilation: distance between the taps of the window, one int or one per dimension.
        groups: channels are split into this many groups that do not see each other.

    Raises:
        ValueError: for an input of integers, for ranks, channels or options that do not fit, or a
            window larger than the padded input.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv import conv
    >>> conv(jnp.ones((1, 28, 28, 3)), jnp.ones((5, 5, 3, 6)), stride=2).shape
    (1, 14, 14, 6)
    """
    rank = _check_ranks(x, kernel)
    _check_channels(x, kernel, groups)
    strides = per_dimension(stride, rank, "stride")
    dilations = per_dimension(dilation, rank, "dilation")
    pairs = window_padding(
        x.shape[1:-1], kernel.shape[:-2], stride=strides, padding=padding, dilation=dilations
    )
    x, pairs = _fill_border(x, pairs, border)
    y = _convolve(x, kernel.astype(x.dtype), strides, pairs, (1,) * rank, dilations, groups)
    return add_bias(y, bias)


def conv1d(
    x: Float[Array, "n w _"],
    kernel: Float[Array, "fw _ c_out"],
    bias: Bias = None,
    **options: Unpack[ConvOptions],
) -> Float[Array, "n ow c_out"]:
    """Convolves (N, W, C_in) with (W, C_in / groups, C_out); options and errors as in `conv`.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv import conv1d
    >>> conv1d(jnp.ones((1, 100, 4)), jnp.ones((5, 4, 8)), stride=2).shape
    (1, 50, 8)
    """
    _check_ranks(x, kernel, 1)
    return conv(x, kernel, bias, **options)


def conv2d(
    x: Float[Array, "n h w _"],
    kernel: Float[Array, "fh fw _ c_out"],
    bias: Bias = None,
    **options: Unpack[ConvOptions],
) -> Float[Array, "n oh ow c_out"]:
    """Convolves (N, H, W, C_in) with (H, W, C_in / groups, C_out); options and errors as in `conv`.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv import conv2d
    >>> conv2d(jnp.ones((1, 28, 28, 1)), jnp.ones((3, 3, 1, 16)), padding="VALID").shape
    (1, 26, 26, 16)
    """
    _check_ranks(x, kernel, 2)
    return conv(x, kernel, bias, **options)


def conv3d(
    x: Float[Array, "n d h w _"],
    kernel: Float[Array, "fd fh fw _ c_out"],
    bias: Bias = None,
    **options: Unpack[ConvOptions],
) -> Float[Array, "n od oh ow c_out"]:
    """Convolves (N, D, H, W, C_in) with (D, H, W, C_in / groups, C_out); otherwise as `conv`.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv import conv3d
    >>> conv3d(jnp.ones((1, 4, 8, 8, 1)), jnp.ones((3, 3, 3, 1, 2)), padding="VALID").shape
    (1, 2, 6, 6, 2)
    """
    _check_ranks(x, kernel, 3)
    return conv(x, kernel, bias, **options)


def depthwise_conv2d(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "fh fw 1 c_out"],
    bias: Bias = None,
    **options: Unpack[DepthwiseOptions],
) -> Float[Array, "n oh ow c_out"]:
    """Convolves every channel on its own with a kernel (H, W, 1, C × multiplier).

    Output channel c × multiplier + m is input channel c under its m-th filter. The kernel is a
    grouped HWIO one, so that initializers find the right fan-in. Options are those of `conv`,
    groups aside.

    Raises:
        ValueError: if the kernel's outputs are not a multiple of the channels; else as `conv`.

    Source: Howard et al. 2017, section 3.1 (arXiv 1704.04861), where the multiplier is 1.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv import depthwise_conv2d
    >>> depthwise_conv2d(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 1, 6)), stride=2).shape
    (1, 4, 4, 6)
    """
    _check_ranks(x, kernel, 2)
    return conv(x, kernel, bias, **options, groups=x.shape[-1])


def conv_transpose(
    x: Float[Array, "n *spatial _"],
    kernel: Float[Array, "*window _ c_out"],
    bias: Bias = None,
    *,
    stride: Ints = 1,
    padding: Padding = "SAME",
    dilation: Ints = 1,
) -> Float[Array, "n *out c_out"]:
    """Upsamples (N, *spatial, C_in) with a kernel (*window, C_in, C_out).

    The convolution, unflipped, of the input stretched by stride − 1 zeros between neighbours, as
    Flax has it. (Keras and PyTorch flip the window: a kernel from there must be reversed in
    its spatial axes.)

    Args:
        x: the input, with one to three spatial dimensions.
        kernel: the weights.
        bias: one number per output channel, or None.
        stride: the factor of upsampling, one int or one per dimension.
        padding: "SAME" (n × stride outputs), "VALID", or padding of the stretched input: an int,
            or one (low, high) pair per dimension.
        dilation: distance between the taps of the window, one int or one per dimension.

    Raises:
        ValueError: for an input of integers, for ranks, channels or options that do not fit, or
            when no output is left.

    Source: Dumoulin and Visin 2016, chapter 4 (arXiv 1603.07285).

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv import conv_transpose
    >>> conv_transpose(jnp.ones((1, 7, 7, 8)), jnp.ones((4, 4, 8, 3)), stride=2).shape
    (1, 14, 14, 3)
    """
    rank = _check_ranks(x, kernel)
    _check_channels(x, kernel, 1)
    strides = per_dimension(stride, rank, "stride")
    dilations = per_dimension(dilation, rank, "dilation")
    paddings = padding_per_dimension(padding, rank)
    pairs = []
    for n, f, s, p, d in zip(
        x.shape[1:-1], kernel.shape[:-2], strides, paddings, dilations, strict=True
    ):
        transposed_output_size(n, f, stride=s, padding=p, dilation=d)
        pairs.append(transposed_padding(f, stride=s, padding=p, dilation=d))
    y = _convolve(x, kernel.astype(x.dtype), (1,) * rank, pairs, strides, dilations, 1)
    return add_bias(y, bias)


def conv_transpose1d(
    x: Float[Array, "n w _"],
    kernel: Float[Array, "fw _ c_out"],
    bias: Bias = None,
    **options: Unpack[TransposeOptions],
) -> Float[Array, "n ow c_out"]:
    """Upsamples (N, W, C_in) with (W, C_in, C_out); options and errors as in `conv_transpose`.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv import conv_transpose1d
    >>> conv_transpose1d(jnp.ones((1, 50, 8)), jnp.ones((4, 8, 4)), stride=2).shape
    (1, 100, 4)
    """
    _check_ranks(x, kernel, 1)
    return conv_transpose(x, kernel, bias, **options)


def conv_transpose2d(
    x: Float[Array, "n h w _"],
    kernel: Float[Array, "fh fw _ c_out"],
    bias: Bias = None,
    **options: Unpack[TransposeOptions],
) -> Float[Array, "n oh ow c_out"]:
    """Upsamples (N, H, W, C_in) with (H, W, C_in, C_out); otherwise as `conv_transpose`.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv import conv_transpose2d
    >>> x, kernel = jnp.ones((1, 7, 7, 8)), jnp.ones((4, 4, 8, 3))
    >>> conv_transpose2d(x, kernel, stride=2, padding="VALID").shape
    (1, 16, 16, 3)
    """
    _check_ranks(x, kernel, 2)
    return conv_transpose(x, kernel, bias, **options)


def conv_transpose3d(
    x: Float[Array, "n d h w _"],
    kernel: Float[Array, "fd fh fw _ c_out"],
    bias: Bias = None,
    **options: Unpack[TransposeOptions],
) -> Float[Array, "n od oh ow c_out"]:
    """Upsamples (N, D, H, W, C_in) with (D, H, W, C_in, C_out); otherwise as `conv_transpose`.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.conv import conv_transpose3d
    >>> conv_transpose3d(jnp.ones((1, 2, 4, 4, 2)), jnp.ones((2, 2, 2, 2, 1)), stride=2).shape
    (1, 4, 8, 8, 1)
    """
    _check_ranks(x, kernel, 3)
    return conv_transpose(x, kernel, bias, **options)


def _convolve(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    stretch: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Array:
    """The one place where a convolution is computed; everything is checked and explicit here."""
    geometry = Geometry(tuple(pairs), tuple(strides), groups, tuple(dilations))
    default = partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=pairs,
        lhs_dilation=stretch,
        rhs_dilation=dilations,
        dimension_numbers=geometry.dimension_numbers,
        feature_group_count=groups,
    )
    if cpu_conv.fits(x, kernel, geometry):
        if all(n == 1 for n in stretch):
            default = partial(cpu_conv.convolve_fenced, geometry=geometry)
        elif geometry.is_plain:
            moved = {"stretch": tuple(stretch), "pairs": geometry.pairs}
            default = partial(convolve_transposed, **moved)
    dense = all(n == 1 for n in (*stretch, *dilations, groups))
    if dense and space_to_depth.fits(x, strides):
        folded = partial(space_to_depth.folded_conv2d, strides=strides, pairs=geometry.pairs)
        return lax.platform_dependent(x, kernel, cuda=folded, default=default)
    return default(x, kernel)


def _fill_border(x: Array, pairs: Pairs, border: str) -> tuple[Array, Pairs]:
    """Returns the input padded by its own pixels, and the zero padding that is left to do."""
    if border == "zero":
        return x, pairs
    if border not in _PAD_MODES:
        raise ValueError(
            f"unknown border {border!r}: it is 'zero', 'edge', 'reflect' or 'circular'"
        )
    for n, pair in zip(x.shape[1:-1], pairs, strict=True):
        if border == "reflect" and max(pair) > n - 1:
            raise ValueError(
                f"a reflect border of {max(pair)} is wider than an input of {n} allows: "
                f"it can be at most {n - 1}"
            )
    # Image by image: a batch with an explicit sharding can't be sliced, which some modes do.
    fill = jax.vmap(lambda image: jnp.pad(image, (*pairs, (0, 0)), mode=_PAD_MODES[border]))
    return fill(x), ((0, 0),) * len(pairs)


def _check_ranks(x: Array, kernel: Array, rank: int | None = None) -> int:
    """Returns the number of spatial dimensions, which must be `rank` if that is given."""
    check_floating(x)
    spatial = x.ndim - 2
    if spatial not in ((1, 2, 3) if rank is None else (rank,)):
        wanted = "1 to 3" if rank is None else rank
        raise ValueError(
            f"the input must be (N, *spatial, C) with {wanted} spatial dimensions; "
            f"it has shape {x.shape}"
        )
    if kernel.ndim != x.ndim:
        raise ValueError(
            f"the kernel must be (*window, C_in, C_out) with {spatial} window dimensions; "
            f"it has shape {kernel.shape}"
        )
    return spatial


def _check_channels(x: Array, kernel: Array, groups: int) -> None:
    channels, (per_group, outputs) = x.shape[-1], kernel.shape[-2:]
    if groups < 1:
        raise ValueError(f"groups must be at least 1, not {groups}")
    if per_group * groups != channels:
        raise ValueError(
            f"an input of {channels} channels does not fit a kernel that takes "
            f"{per_group} in each of {groups} groups"
        )
    if outputs % groups:
        raise ValueError(f"{outputs} output channels cannot be split into {groups} groups")
