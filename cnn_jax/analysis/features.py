"""What the layers of a network return for given images.

A layer is what `operations.every_layer` says. All this works on every Linen model, whatever its
modules are, but what layers inside of nn.remat, nn.jit or nn.scan return can't be had: they are
left out. Here and in all that builds on it, images are pixels in [0, 1], and `prepare` turns them
into what the network takes, so that gradients are those by pixels.
"""

import re
from collections.abc import Callable, Iterable

import jax
from flax import linen as nn
from flax.core.tracers import current_trace
from jaxtyping import Array, Float, PyTree

from cnn_jax.analysis.operations import Call, every_layer, operations
from cnn_jax.errors import InputError, unknown
from cnn_jax.layers import identity

Images = Float[Array, "n h w c"]
Prepare = Callable[[Images], Images]


def activations(
    model: nn.Module,
    variables: PyTree,
    images: Images,
    *,
    layers: Iterable[str] | None = None,
    prepare: Prepare = identity,
) -> dict[str, Float[Array, "n ..."]]:
    """Returns what layers return at inference, by their names, in the order of computation.

    With `layers` the model is followed only as far as the last of them, so that those before a
    dense layer take images of any size.

    Raises:
      InputError: the model has no such layer.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.models.registry import build_model, initialize
    >>> model = build_model("lenet", 10)
    >>> variables = initialize(jax.random.key(0), model=model, image_shape=(28, 28, 1))
    >>> found = activations(model, variables, jnp.ones((2, 28, 28, 1)), layers=["conv1", "pool2"])
    >>> {name: array.shape for name, array in found.items()}
    {'conv1': (2, 28, 28, 6), 'pool2': (2, 5, 5, 16)}
    """
    wanted = None if layers is None else set(layers)
    found: dict[str, jax.Array] = {}
    passed = []

    def see(name: str, output: jax.Array) -> jax.Array:
        passed.append(name)
        if wanted is None or name in wanted:
            found[name] = output
        if found.keys() == wanted:
            raise _AllSeen
        return output

    try:
        _apply(model, variables, prepare(images), see)
    except _AllSeen:
        return found
    for name in sorted((wanted or set()) - found.keys()):
        raise unknown("layer", name, passed)
    return found


def activation(
    model: nn.Module,
    variables: PyTree,
    images: Images,
    *,
    layer: str,
    prepare: Prepare = identity,
) -> Float[Array, "n ..."]:
    """Returns what one layer returns, as `activations` does."""
    return activations(model, variables, images, layers=[layer], prepare=prepare)[layer]


def with_offset(
    model: nn.Module,
    variables: PyTree,
    images: Images,
    offset: Float[Array, "n ..."],
    *,
    layer: str,
    prepare: Prepare = identity,
) -> tuple[Float[Array, "n classes"], Float[Array, "n ..."]]:
    """Returns the logits where `offset` is added to what a layer returns, and the layer's output.

    The gradient by the offset is the gradient by the layer's output; it costs no backward pass
    through what comes before the layer.

    Raises:
      InputError: the model has no such layer.
    """
    found: dict[str, jax.Array] = {}
    passed = []

    def see(name: str, output: jax.Array) -> jax.Array:
        passed.append(name)
        if name != layer:
            return output
        found[name] = output
        return output + offset

    logits = _apply(model, variables, prepare(images), see)
    if layer not in found:
        raise unknown("layer", layer, passed)
    return logits, found[layer]


def layer_shapes(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of what each layer returns for one image, in the order of computation.

    Raises:
      InputError: the images are too small for the network.

    >>> from cnn_jax.models.registry import build_model
    >>> list(layer_shapes(build_model("lenet", 10), (28, 28, 1)).items())[:2]
    [('pad', (32, 32, 1)), ('conv1', (28, 28, 6))]
    """
    return {each.name: each.output_shape for each in operations(model, image_shape)}


def match_layers(pattern: str, layers: Iterable[str]) -> list[str]:
    """Returns the layers in whose names a regular expression is found; a whole name is itself.

    Raises:
      InputError: it is found in none, or is no regular expression.

    >>> match_layers("conv", ["conv1", "relu1", "conv11"])
    ['conv1', 'conv11']
    >>> match_layers("conv1", ["conv1", "relu1", "conv11"])
    ['conv1']
    """
    layers = list(layers)
    if pattern in layers:
        return [pattern]
    try:
        found = [name for name in layers if re.search(pattern, name)]
    except re.error as error:
        raise InputError(f"the layer '{pattern}' is no regular expression: {error}") from error
    if not found:
        raise unknown("layer", pattern, layers)
    return found


class _AllSeen(Exception):
    """Ends a forward pass that has returned all that was asked for."""


def _apply(
    model: nn.Module, variables: PyTree, inputs: Images, see: Callable[[str, Array], Array]
) -> jax.Array:
    """Returns the logits where see(name, output) stands for the output of every layer."""
    outside = current_trace()

    def see_outside(call: Call) -> Array:
        # What is computed inside of a transformation may not leave it.
        return see(call.name, call.output) if current_trace() == outside else call.output

    with every_layer(see_outside):
        return model.apply(variables, inputs, train=False)
