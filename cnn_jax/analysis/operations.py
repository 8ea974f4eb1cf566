"""What a network consists of: its layers as the nodes of a graph, traced on shapes alone."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import PyTree

from cnn_jax.layers import arithmetic
from cnn_jax.models import modules
from cnn_jax.models.registry import variable_shapes


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
    return trace(model, image_shape, variable_shapes(model, image_shape))


def trace(
    model: nn.Module, image_shape: tuple[int, int, int], variables: PyTree
) -> list[Operation]:
    """Returns the `operations` of a model whose variables, or their shapes, are at hand."""
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


def window_and_stride(module: nn.Module) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Returns the spatial window and stride of a convolution or pooling, else (None, None)."""
    if not isinstance(module, modules.Conv | modules.MaxPool | modules.AvgPool):
        return None, None
    window = tuple(module.window)
    stride = window if module.stride is None else module.stride
    return window, arithmetic.per_dimension(stride, len(window), "stride")
