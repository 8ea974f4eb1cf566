"""Arithmetic of layers in plain integers: sizes, receptive fields, parameters and FLOPs.

Every formula is per spatial dimension unless a window or a shape is asked for. The layers take
their own padding and size checks from here, so formula and layer cannot drift apart.

FLOPs count a multiply-add as two. Taps that fall on padding count like any other, and a bias costs
one addition for each output. All FLOP counts are for one example.

Sources: Dumoulin and Visin 2016 for sizes, transposed ones in chapter 4 (arXiv 1603.07285); Araujo,
Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral  # NumPy's integers are such, too

# "SAME", "VALID", an int for every side, or one (low, high) pair per spatial dimension.
Padding = str | int | Sequence
Pairs = tuple[tuple[int, int], ...]  # the same in numbers: (low, high) for each dimension


def per_dimension(value: int | Sequence[int], rank: int, name: str) -> tuple[int, ...]:
    """Returns one positive integer for each of the `rank` spatial dimensions.

    Raises ValueError for a sequence of another length and for anything but positive integers.

    >>> from cnn_jax.layers.arithmetic import per_dimension
    >>> per_dimension(2, 3, "stride")
    (2, 2, 2)
    """
    values = tuple(value) if isinstance(value, Iterable) else (value,) * rank
    if len(values) != rank:
        raise ValueError(f"{name} {values} needs one integer for each of {rank} dimensions")
    if not all(isinstance(v, Integral) and v >= 1 for v in values):
        raise ValueError(f"{name} must be a positive integer in each dimension, not {value!r}")
    return tuple(map(int, values))


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        per_dimension(number, 1, name)


def effective_window(window: int, *, dilation: int = 1) -> int:
    """Returns the inputs that a dilated window spans, holes included: d (f − 1) + 1.

    >>> from cnn_jax.layers.arithmetic import effective_window
    >>> effective_window(3), effective_window(3, dilation=2)
    (3, 5)
    """
    _check_positive(window=window, dilation=dilation)
    return dilation * (window - 1) + 1


def same_padding(n: int, window: int, *, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Returns the (low, high) padding of "SAME": the output is ceil(n / stride) long.

    TensorFlow's and XLA's rule: the odd element goes to the high side. With a stride it differs
    from PyTorch's symmetric padding, and depends on the size of the input.

    >>> from cnn_jax.layers.arithmetic import same_padding
    >>> same_padding(32, 3), same_padding(32, 3, stride=2)
    ((1, 1), (0, 1))
    """
    _check_positive(stride=stride)
    outputs = -(-n // stride)
    total = max((outputs - 1) * stride + effective_window(window, dilation=dilation) - n, 0)
    return total // 2, total - total // 2


def _explicit_pair(padding: Padding) -> tuple[int, int]:
    pair = (padding, padding) if isinstance(padding, Integral) else padding
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
        raise ValueError(
            f"unknown padding {padding!r}: it is 'SAME', 'VALID', an integer or (low, high) pairs"
        )
    if not all(isinstance(p, Integral) and p >= 0 for p in pair):
        raise ValueError(f"padding must consist of integers of at least 0, not {padding!r}")
    return int(pair[0]), int(pair[1])


def padding_pair(
    n: int, window: int, *, stride: int = 1, padding: Padding = 0, dilation: int = 1
) -> tuple[int, int]:
    """Returns the (low, high) padding in one dimension; ValueError for a padding not known."""
    if padding == "SAME":
        return same_padding(n, window, stride=stride, dilation=dilation)
    return (0, 0) if padding == "VALID" else _explicit_pair(padding)


def padding_per_dimension(padding: Padding, rank: int) -> tuple[str | int | Sequence, ...]:
    """Returns one padding per dimension from a name, an int, or a sequence of (low, high) pairs.

    Raises ValueError for a sequence that is not `rank` pairs long.

    >>> from cnn_jax.layers.arithmetic import padding_per_dimension
    >>> padding_per_dimension(1, 2), padding_per_dimension([(0, 1), (2, 2)], 2)
    ((1, 1), ((0, 1), (2, 2)))
    """
    if isinstance(padding, (str, Integral)):
        return (padding,) * rank
    pairs = tuple(padding) if isinstance(padding, Iterable) else ()
    if len(pairs) != rank or any(isinstance(p, str) or not isinstance(p, Iterable) for p in pairs):
        raise ValueError(
            f"padding {padding!r} needs one (low, high) pair for each of {rank} dimensions"
        )
    return tuple(map(tuple, pairs))


def output_size(
    n: int, window: int, *, stride: int = 1, padding: Padding = 0, dilation: int = 1
) -> int:
    """Returns the length of a convolution's or a pooling's output, (n − f + 2p) / s + 1 floored.

    Args:
        n: length of the input.
        window: length f of the window, dilation aside.
        stride: steps s between windows.
        padding: "SAME", "VALID", p on both sides, or a pair (low, high). The default is 0, which is
            "VALID"; that of `conv2d` is "SAME".
        dilation: distance between the window's taps.

    Raises:
        ValueError: if the window does not fit, so that there would be no output, or a window, a
            stride or a dilation is not a positive integer.

    >>> from cnn_jax.layers.arithmetic import output_size
    >>> output_size(227, 11, stride=4), output_size(7, 3, stride=2, padding=1)
    (55, 4)
    """
    _check_positive(stride=stride)
    low, high = padding_pair(n, window, stride=stride, padding=padding, dilation=dilation)
    span = effective_window(window, dilation=dilation)
    if n < 1 or n + low + high < span:
        holes = f", spread over {span} by dilation {dilation}," if dilation > 1 else ""
        pads = f" padded by ({low}, {high})" if low + high else ""
        raise ValueError(f"window {window}{holes} does not fit an input of {n}{pads}")
    return (n + low + high - span) // stride + 1


def window_padding(
    sizes: Sequence[int],
    window: Sequence[int],
    *,
    stride: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
) -> Pairs:
    """Returns the (low, high) padding of every dimension, having checked that each window fits.

    All sequences hold one entry per spatial dimension. Raises ValueError as `output_size` does.
    """
    pairs = []
    paddings = padding_per_dimension(padding, len(sizes))
    for n, f, s, p, d in zip(sizes, window, stride, paddings, dilation, strict=True):
        pair = padding_pair(n, f, stride=s, padding=p, dilation=d)
        output_size(n, f, stride=s, padding=pair, dilation=d)
        pairs.append(pair)
    return tuple(pairs)


def transposed_padding(
    window: int, *, stride: int = 1, padding: Padding = "SAME", dilation: int = 1
) -> tuple[int, int]:
    """Returns the padding of the stretched input with which a convolution runs transposed.

    The input is stretched by putting stride − 1 zeros between neighbours. "SAME" and "VALID" are
    those of the forward convolution; numbers are padding of the stretched input itself, as in
    Flax. (PyTorch's `padding=p` crops instead: it is f − 1 − p here.)

    >>> from cnn_jax.layers.arithmetic import transposed_padding
    >>> transposed_padding(3, stride=2), transposed_padding(3, stride=2, padding="VALID")
    ((2, 1), (2, 2))
    """
    _check_positive(stride=stride)
    span = effective_window(window, dilation=dilation)
    if padding == "SAME":
        total = span + stride - 2
        low = span - 1 if stride > span - 1 else -(-total // 2)
        return low, total - low
    if padding == "VALID":
        return span - 1, max(span, stride) - 1
    return _explicit_pair(padding)


def transposed_output_size(
    n: int, window: int, *, stride: int = 1, padding: Padding = "SAME", dilation: int = 1
) -> int:
    """Returns the length of a transposed convolution's output.

    n s for "SAME", n s + max(f − s, 0) for "VALID", and (n − 1) s + 2 − f + low + high for numbers,
    which pad the stretched input (see `transposed_padding`); f is the effective window.

    Raises:
        ValueError: if there would be no output.

    >>> from cnn_jax.layers.arithmetic import transposed_output_size
    >>> transposed_output_size(7, 4, stride=2), transposed_output_size(7, 4, stride=2, padding=2)
    (14, 14)
    """
    pair = transposed_padding(window, stride=stride, padding=padding, dilation=dilation)
    if n < 1:
        raise ValueError(f"window {window} does not fit an input of {n}")
    return output_size((n - 1) * stride + 1, window, padding=pair, dilation=dilation)


@dataclass(frozen=True)
class ReceptiveField:
    """What one unit sees of the input, in one dimension.

    Attributes:
        size: input positions that can influence the unit.
        jump: input positions between the centres of neighbouring units.
        start: the first input position that unit 0 sees; negative in the padding.
    """

    size: int = 1
    jump: int = 1
    start: int = 0

    def through(
        self, window: int, stride: int = 1, dilation: int = 1, padding: int = 0
    ) -> "ReceptiveField":
        """Returns the field of a unit behind one more convolution or pooling.

        `padding` is that in front of the first element.

        >>> from cnn_jax.layers.arithmetic import ReceptiveField
        >>> ReceptiveField().through(3, padding=1).through(2, stride=2).through(3)
        ReceptiveField(size=8, jump=2, start=-1)
        """
        _check_positive(stride=stride)
        grown = self.size + (effective_window(window, dilation=dilation) - 1) * self.jump
        return ReceptiveField(grown, self.jump * stride, self.start - padding * self.jump)

    def of_unit(self, unit: int) -> tuple[int, int]:
        """Returns the first input position that a unit sees and the one behind the last.

        >>> from cnn_jax.layers.arithmetic import ReceptiveField
        >>> ReceptiveField(size=3, jump=2, start=-1).of_unit(4)
        (7, 10)
        """
        first = self.start + unit * self.jump
        return first, first + self.size

    def joined(self, other: "ReceptiveField") -> "ReceptiveField":
        """Returns the field of a unit that sees what the units of two branches see."""
        start = min(self.start, other.start)
        stop = max(self.start + self.size, other.start + other.size)
        return ReceptiveField(stop - start, max(self.jump, other.jump), start)


def receptive_field(layers: Iterable[Sequence[int]]) -> ReceptiveField:
    """Returns the field behind a chain of layers, from the first on.

    Each is (window,), (window, stride), (window, stride, dilation), or these and the padding.

    >>> from cnn_jax.layers.arithmetic import receptive_field
    >>> receptive_field([(5,), (2, 2), (5,), (2, 2)])
    ReceptiveField(size=16, jump=4, start=0)
    """
    field = ReceptiveField()
    for layer in layers:
        field = field.through(*layer)
    return field


def _taps_per_output(
    window: Sequence[int], channels_in: int, channels_out: int, groups: int
) -> int:
    for side, channels in (("input", channels_in), ("output", channels_out)):
        if groups < 1 or channels % groups:
            raise ValueError(f"{channels} {side} channels cannot be split into {groups} groups")
    return math.prod(window) * (channels_in // groups)


def conv_parameters(
    window: Sequence[int],
    channels_in: int,
    channels_out: int,
    *,
    groups: int = 1,
    bias: bool = True,
) -> int:
    """Returns weights and biases of a convolution, plain or transposed; `window` like (3, 3).

    >>> from cnn_jax.layers.arithmetic import conv_parameters
    >>> conv_parameters((5, 5), 3, 6), conv_parameters((3, 3), 3, 100, bias=False)
    (456, 2700)
    """
    return channels_out * (_taps_per_output(window, channels_in, channels_out, groups) + bias)


def dense_parameters(features_in: int, features_out: int, *, bias: bool = True) -> int:
    """Returns weights and biases of a dense layer.

    >>> from cnn_jax.layers.arithmetic import dense_parameters
    >>> dense_parameters(3072, 100)
    307300
    """
    return features_out * (features_in + bias)


def norm_parameters(channels: int, *, scale: bool = True, bias: bool = True) -> int:
    """Returns the learned scales and biases of a normalisation; running statistics are not.

    >>> from cnn_jax.layers.arithmetic import norm_parameters
    >>> norm_parameters(16), norm_parameters(16, scale=False)
    (32, 16)
    """
    return channels * (scale + bias)


def conv_flops(
    output: Sequence[int],
    window: Sequence[int],
    channels_in: int,
    channels_out: int,
    *,
    groups: int = 1,
    bias: bool = True,
) -> int:
    """Returns the FLOPs of a convolution: outputs × (2 × taps × C_in / groups + bias).

    Args:
        output: spatial shape of the output, like (28, 28).
        window: spatial shape of the kernel, like (3, 3).
        channels_in: channels of the input.
        channels_out: channels of the output.
        groups: groups of channels that do not see each other.
        bias: whether a bias is added.

    >>> from cnn_jax.layers.arithmetic import conv_flops
    >>> conv_flops((28, 28), (3, 3), 1, 16, bias=False)
    225792
    """
    per_output = 2 * _taps_per_output(window, channels_in, channels_out, groups) + bias
    return math.prod(output) * channels_out * per_output


def conv_transpose_flops(
    inputs: Sequence[int],
    output: Sequence[int],
    window: Sequence[int],
    channels_in: int,
    channels_out: int,
    *,
    bias: bool = True,
) -> int:
    """Returns the FLOPs of a transposed convolution, counted as it scatters.

    Each input is multiplied with every tap of every output channel and added: multiplications
    with the zeros of the stretched input are not counted, what falls outside the output is.

    >>> from cnn_jax.layers.arithmetic import conv_transpose_flops
    >>> conv_transpose_flops((7, 7), (14, 14), (4, 4), 8, 3)
    38220
    """
    scattered = 2 * math.prod(inputs) * math.prod(window) * channels_in * channels_out
    return scattered + bias * math.prod(output) * channels_out


def dense_flops(features_in: int, features_out: int, *, bias: bool = True) -> int:
    """Returns the FLOPs of a dense layer: outputs × (2 × inputs + bias).

    >>> from cnn_jax.layers.arithmetic import dense_flops
    >>> dense_flops(3072, 100)
    614500
    """
    return features_out * (2 * features_in + bias)


def pool_flops(output: Sequence[int], window: Sequence[int], channels: int) -> int:
    """Returns the FLOPs of a pooling: one for each element of each window.

    That is f − 1 comparisons or additions, and one comparison or division to finish.

    >>> from cnn_jax.layers.arithmetic import pool_flops
    >>> pool_flops((14, 14), (2, 2), 6)
    4704
    """
    return math.prod(output) * math.prod(window) * channels


def norm_flops(shape: Sequence[int]) -> int:
    """Returns the FLOPs of batch normalisation at inference on (*spatial, C): scale and shift.

    >>> from cnn_jax.layers.arithmetic import norm_flops
    >>> norm_flops((28, 28, 6))
    9408
    """
    return 2 * math.prod(shape)
