"""What a network consists of, operation by operation, without data and without weights.

The model is traced on shapes alone; every layer, see `every_layer`, becomes an operation, and a row
of the summary. FLOPs are those of one image at inference, a multiply-add
counted as two (`layers.arithmetic`).
"""

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree

from cnn_jax.layers import arithmetic
from cnn_jax.layers.arithmetic import ReceptiveField
from cnn_jax.models import modules
from cnn_jax.models.registry import count_parameters, variable_shapes
from cnn_jax.models.residual import PadShortcut

FLOAT_BYTES = 4
LAYER_COLUMNS = (
    "layer",
    "kind",
    "output",
    "kernel",
    "stride",
    "parameters",
    "MFLOPs",
    "sees",
    "activation",
)


@dataclasses.dataclass(frozen=True)
class Operation:
    """A layer: a node of the network's graph."""

    module: nn.Module  # its options; it is bound to no variables
    name: str  # its path in the model, "PATH:2" where it is called again
    inputs: tuple[int | None, ...]  # 0: the images, i: what operation i returned, from 1 on
    input_shape: tuple[int, ...]  # of the first input, without the batch
    output_shape: tuple[int, ...]


class Call(NamedTuple):
    """A layer as it is computed."""

    module: nn.Module
    name: str
    inputs: list[jax.Array]  # all arrays among the arguments
    output: jax.Array


@dataclasses.dataclass(frozen=True)
class Row:
    """One operation; sizes are those of one image."""

    name: str
    kind: str
    output_shape: tuple[int, ...]  # without the batch
    kernel: tuple[int, ...] | None
    stride: tuple[int, ...] | None
    parameters: int
    flops: int | None  # None: not known for this kind of module
    receptive_field: tuple[int, ...] | None  # in input pixels; None once the image is flattened
    activation_bytes: int  # of the output, in float32


@dataclasses.dataclass(frozen=True)
class Summary:
    """The rows of a network in the order of computation."""

    image_shape: tuple[int, int, int]
    rows: tuple[Row, ...]
    trainable: int
    not_trainable: int

    @property
    def flops(self) -> int:
        """The FLOPs of all layers of which they are known."""
        return sum(row.flops or 0 for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """The bytes of all outputs."""
        return sum(row.activation_bytes for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Returns `layers`, one object a row, and `total`."""
        return {
            "image_shape": self.image_shape,
            "layers": [dataclasses.asdict(row) for row in self.rows],
            "total": {
                "parameters": self.trainable,
                "trainable": self.trainable,
                "not_trainable": self.not_trainable,
                "flops": self.flops,
                "activation_bytes": self.activation_bytes,
            },
        }


def operations(model: nn.Module, image_shape: tuple[int, int, int]) -> list[Operation]:
    """Returns what a model does to images of one shape at inference, in the order of computation.

    An input is None where no module returned it, as with the bare sum of two outputs. A network
    without such inputs is described in full: another framework can build it from the list.

    Raises:
      InputError: the images are too small for the network.

    >>> from cnn_jax.models.registry import build_model
    >>> first, second, *_ = operations(build_model("lenet", 10), (28, 28, 1))
    >>> first.name, first.inputs, first.output_shape, second.name, second.inputs
    ('pad', (0,), (32, 32, 1), 'conv1', (1,))
    """
    return _trace(model, image_shape, variable_shapes(model, image_shape))


def summarize(model: nn.Module, image_shape: tuple[int, int, int]) -> Summary:
    """Returns the summary of a model for images of one shape.

    Raises:
      InputError: the images are too small for the network.

    >>> from cnn_jax.models.registry import build_model
    >>> summarize(build_model("lenet", 10), (28, 28, 1)).trainable
    61706
    """
    variables = variable_shapes(model, image_shape)
    params = variables.get("params", {})
    found = _trace(model, image_shape, variables)
    sizes = _parameters_by_layer(model, params)
    fields = receptive_fields(found)
    rows = tuple(_row(*each, sizes) for each in zip(found, fields, strict=True))
    trainable = count_parameters(params)
    return Summary(image_shape, rows, trainable, count_parameters(variables) - trainable)


@contextlib.contextmanager
def every_layer(see: Callable[[Call], jax.Array]) -> Iterator[None]:
    """Says, for the networks applied in the block, what stands for the output of each layer.

    A layer is a module call that calls no other and returns an array. It is named by its path; a
    module that is called again has its second output under `name:2`.
    """
    calls: Counter[str] = Counter()

    def interceptor(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        before = calls.total()
        output = call(*args, **kwargs)
        inner = context.method_name != "__call__" or calls.total() > before
        if inner or not isinstance(output, jax.Array):
            return output
        module = context.module
        name = "/".join(module.path) or type(module).__name__
        calls[name] += 1
        name = name if calls[name] == 1 else f"{name}:{calls[name]}"
        inputs = [x for x in jax.tree.leaves((args, kwargs)) if isinstance(x, jax.Array)]
        return see(Call(module, name, inputs, output))

    with nn.intercept_methods(interceptor):
        yield


def _trace(
    model: nn.Module, image_shape: tuple[int, int, int], variables: PyTree
) -> list[Operation]:
    """Makes an operation of every layer, and follows the arrays between them."""
    found: list[Operation] = []
    arrays: list[jax.Array] = []  # the images, and what each operation returned

    def record(call: Call) -> jax.Array:
        output = call.output
        if any(output is array for array in call.inputs):
            output = jnp.copy(output)  # what dropout passes on at inference is an output of its own
        numbers = {id(array): number for number, array in enumerate(arrays)}
        first = call.inputs[0] if call.inputs else output
        found.append(
            Operation(
                module=call.module.clone(parent=None),
                name=call.name,
                inputs=tuple(numbers.get(id(array)) for array in call.inputs) or (None,),
                input_shape=first.shape[1:],
                output_shape=output.shape[1:],
            )
        )
        arrays.append(output)
        return output

    def forward(variables: PyTree, images: jax.Array) -> jax.Array:
        arrays.append(images)
        return model.apply(variables, images, train=False)

    with every_layer(record):
        jax.eval_shape(forward, variables, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return found


def _parameters_by_layer(model: nn.Module, params: PyTree) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for path, leaf in flatten_dict(params, sep="/").items():
        name = path.rpartition("/")[0] or type(model).__name__
        sizes[name] = sizes.get(name, 0) + leaf.size
    return sizes


def _row(
    operation: Operation, field: tuple[ReceptiveField, ...] | None, parameters: dict[str, int]
) -> Row:
    module, output_shape = operation.module, operation.output_shape
    kernel, stride = window_and_stride(module)
    return Row(
        name=operation.name,
        kind=kind(module),
        output_shape=output_shape,
        kernel=kernel,
        stride=stride,
        parameters=parameters.get(operation.name, 0),
        flops=flops(module, operation.input_shape, output_shape),
        receptive_field=field and tuple(f.size for f in field),
        activation_bytes=math.prod(output_shape) * FLOAT_BYTES,
    )


def receptive_fields(found: list[Operation]) -> list[tuple[ReceptiveField, ...] | None]:
    """Returns the field behind each operation; None once the image is flattened.

    What no module returned, such as a sum of branches, sees as far as anything before it. A module
    that is none of ours counts as one that looks at each position by itself.
    """
    widest = (ReceptiveField(), ReceptiveField())
    fields: list[tuple[ReceptiveField, ...] | None] = [widest]
    for operation in found:
        inputs = [widest if i is None else fields[i] for i in operation.inputs]
        field = _grow(inputs, operation)
        widest = _joined([widest, field]) if field else widest
        fields.append(field)
    return fields[1:]


def _grow(fields: list, operation: Operation) -> tuple[ReceptiveField, ...] | None:
    """Returns the field behind an operation: where branches meet, both of theirs."""
    if len(operation.output_shape) < 3 or None in fields:
        return None
    field, sizes = _joined(fields), operation.input_shape[:-1]
    window, stride, dilation, padding = _sliding(operation.module, len(sizes))
    pairs = arithmetic.window_padding(
        sizes, window, stride=stride, padding=padding, dilation=dilation
    )
    return tuple(
        f.through(k, s, d, low)
        for f, k, s, d, (low, _) in zip(field, window, stride, dilation, pairs, strict=True)
    )


def _sliding(module: nn.Module, rank: int) -> tuple[tuple, tuple, tuple, arithmetic.Padding]:
    """Returns the window, stride, dilation and padding with which a module looks at its input."""
    ones = (1,) * rank
    window, stride = window_and_stride(module)
    if window is not None:
        dilation = getattr(module, "dilation", 1)
        return window, stride, arithmetic.per_dimension(dilation, rank, "dilation"), module.padding
    if isinstance(module, PadShortcut):
        return ones, (module.stride,) * rank, ones, 0
    return ones, ones, ones, module.padding if isinstance(module, modules.ZeroPad) else 0


def _joined(fields: list[tuple[ReceptiveField, ...]]) -> tuple[ReceptiveField, ...]:
    return tuple(reduce(ReceptiveField.joined, each) for each in zip(*fields, strict=True))


def kind(module: nn.Module) -> str:
    """Returns what a row calls a module: the function for an activation, else the class."""
    return module.function if isinstance(module, modules.Activation) else type(module).__name__


def window_and_stride(module: nn.Module) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Returns the spatial window and stride of a convolution or pooling, else (None, None)."""
    if not isinstance(module, modules.Conv | modules.MaxPool | modules.AvgPool):
        return None, None
    window = tuple(module.window)
    stride = window if module.stride is None else module.stride
    return window, arithmetic.per_dimension(stride, len(window), "stride")


def flops(module: nn.Module, input_shape: tuple, output_shape: tuple) -> int | None:
    """Returns the FLOPs of a module for one image, None if its class is not one of ours.

    Activations count one per element, whatever the function; dropout, padding and flattening none.
    """
    *space, channels = output_shape or (1,)
    match module:
        case modules.Conv():
            return arithmetic.conv_flops(
                space,
                module.window,
                input_shape[-1],
                channels,
                groups=module.groups,
                bias=module.use_bias,
            )
        case modules.Dense():
            one = arithmetic.dense_flops(input_shape[-1], channels, bias=module.use_bias)
            return one * math.prod(space)
        case modules.MaxPool() | modules.AvgPool():
            return arithmetic.pool_flops(space, module.window, channels)
        case modules.GlobalAvgPool():
            return math.prod(input_shape)
        case modules.BatchNorm():
            return arithmetic.norm_flops(output_shape)
        case modules.Activation() | modules.Add():
            return math.prod(output_shape)
        case modules.ResponseNorm():
            # A sum of squares over the neighbours, then scale, shift, power and quotient.
            return math.prod(output_shape) * (2 * module.size + 4)
        case modules.Dropout() | modules.DropPath() | modules.Flatten():
            return 0
        case modules.ZeroPad() | PadShortcut():
            return 0
    return None


def layer_cells(row: Row) -> list[str]:
    """Returns one layer as text, a cell for each of `LAYER_COLUMNS`."""
    return [
        row.name,
        row.kind,
        times(row.output_shape),
        times(row.kernel),
        times(row.stride),
        f"{row.parameters:,}" if row.parameters else "",
        "?" if row.flops is None else f"{row.flops / 1e6:,.2f}",
        times(row.receptive_field),
        byte_text(row.activation_bytes),
    ]


def times(shape: tuple[int, ...] | None) -> str:
    """Returns sizes as a product.

    >>> times((3, 3)), times(None)
    ('3×3', '')
    """
    return "×".join(map(str, shape)) if shape else ""


def byte_text(count: int) -> str:
    """Returns a number of bytes in the unit that suits it.

    >>> byte_text(2560), byte_text(5 * 1024**2)
    ('2.5 KiB', '5.0 MiB')
    """
    return f"{count / 1024:,.1f} KiB" if count < 1024**2 else f"{count / 1024**2:,.1f} MiB"
