"""A network layer by layer: shapes, parameters, FLOPs and memory, without data and weights.

Every operation is a row. FLOPs are those of one image at inference, a multiply-add counted as two
(`layers.arithmetic`).
"""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree

from cnn_jax.analysis.operations import Operation, trace, window_and_stride
from cnn_jax.analysis.receptive_field import receptive_fields
from cnn_jax.layers import arithmetic
from cnn_jax.layers.arithmetic import ReceptiveField
from cnn_jax.models import modules
from cnn_jax.models.registry import count_parameters, seen_part, variable_shapes
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
    seen_shape: tuple[int, int, int]  # of the part, at the top left, on which the logits depend
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
            "seen_shape": self.seen_shape,
            "layers": [dataclasses.asdict(row) for row in self.rows],
            "total": {
                "parameters": self.trainable,
                "trainable": self.trainable,
                "not_trainable": self.not_trainable,
                "flops": self.flops,
                "activation_bytes": self.activation_bytes,
            },
        }


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
    found = trace(model, image_shape, variables)
    sizes = _parameters_by_layer(model, params)
    fields = receptive_fields(found)
    rows = tuple(_row(*each, sizes) for each in zip(found, fields, strict=True))
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    seen_shape = jax.eval_shape(partial(seen_part, model), image).shape[1:]
    trainable = count_parameters(params)
    not_trainable = count_parameters(variables) - trainable
    return Summary(image_shape, seen_shape, rows, trainable, not_trainable)


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


def kind(module: nn.Module) -> str:
    """Returns what a row calls a module: the function for an activation, else the class."""
    return module.function if isinstance(module, modules.Activation) else type(module).__name__


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
