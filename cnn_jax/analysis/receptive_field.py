"""What part of the image a unit sees: as the layers' geometry says, and as gradients show.

Source of the geometry: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural
Networks", Distill 2019.
"""

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from cnn_jax.analysis.features import Images, Prepare, activation
from cnn_jax.analysis.operations import Operation, operations, window_and_stride
from cnn_jax.errors import InputError
from cnn_jax.layers import ReceptiveField, arithmetic, identity
from cnn_jax.models import modules
from cnn_jax.models.residual import PadShortcut


class Box(NamedTuple):
    """Rows top to bottom − 1 and columns left to right − 1; it may reach beyond the image."""

    top: int
    left: int
    bottom: int
    right: int


def theoretical_fields(
    model: nn.Module, image_shape: tuple[int, int, int]
) -> dict[str, tuple[ReceptiveField, ...] | None]:
    """Returns the receptive field of each layer, down and across; None where all is seen.

    Raises:
      InputError: the images are too small for the network.

    >>> from cnn_jax.models.registry import build_model
    >>> theoretical_fields(build_model("lenet", 10), (28, 28, 1))["pool1"][0]
    ReceptiveField(size=6, jump=2, start=-2)
    """
    found = operations(model, image_shape)
    return {o.name: f for o, f in zip(found, receptive_fields(found), strict=True)}


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


def box_of(
    field: tuple[ReceptiveField, ...] | None,
    position: tuple[int, int],
    image_shape: tuple[int, int, int],
) -> Box:
    """Returns what the unit at a position sees, `field` being its layer's; None is the image.

    >>> box_of((ReceptiveField(size=5, jump=2, start=-1),) * 2, (1, 3), (28, 28, 1))
    Box(top=1, left=5, bottom=6, right=10)
    """
    if field is None:
        return Box(0, 0, *image_shape[:2])
    (top, bottom), (left, right) = (f.of_unit(at) for f, at in zip(field, position, strict=True))
    return Box(top, left, bottom, right)


def measured_field(
    model: nn.Module,
    variables: PyTree,
    images: Images,
    *,
    layer: str,
    position: tuple[int, int] | None = None,
    prepare: Prepare = identity,
) -> Float[Array, "h w"]:
    """Returns how strongly each pixel moves a unit: the effective field (arXiv 1701.04128).

    It is the mean over the images and the sum over their channels of the magnitude of the gradient
    of the unit's channels' sum. `position` is the unit's row and column, by default the middle's;
    it has no meaning for a layer without positions.

    Raises:
      InputError: the model has no such layer, or the layer no such position.

    >>> from cnn_jax.models.registry import build_model, initialize
    >>> model, images = build_model("lenet", 10), jnp.ones((1, 28, 28, 1))
    >>> variables = initialize(jax.random.key(0), model=model, image_shape=(28, 28, 1))
    >>> field = measured_field(model, variables, images, layer="conv1")
    >>> field.shape, int((field > 0).sum())  # a window of 5 by 5
    ((28, 28), 25)
    """

    def answer(images: Images) -> Float[Array, ""]:
        maps = activation(model, variables, images, layer=layer, prepare=prepare)
        if maps.ndim == 4:
            row, column = middle(maps.shape[1:3]) if position is None else position
            height, width = maps.shape[1:3]
            if not (-height <= row < height and -width <= column < width):
                raise InputError(
                    f"the maps of the layer '{layer}' are {height}×{width}: they have no position "
                    f"({row}, {column})"
                )
            maps = maps[:, row, column]
        return maps.sum()

    return jnp.abs(jax.grad(answer)(images)).mean(0).sum(-1)


def middle(size: tuple[int, ...]) -> tuple[int, int]:
    """Returns the position in the middle of a map of this height and width, and more.

    >>> middle((5, 4, 16))
    (2, 2)
    """
    return size[0] // 2, size[1] // 2
