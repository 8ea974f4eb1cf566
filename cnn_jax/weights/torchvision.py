"""Weights of torchvision's VGG, AlexNet and ResNet brought into the form of ours.

What torchvision numbers (`features.0`, `classifier.3`) is matched by its order, what it names
(`layer1.0.conv1`) by its name; then every layer's shape must be that of ours. PyTorch keeps kernels
as (outputs, inputs, height, width) and (outputs, inputs), and flattens channels first: the rows of
the first dense layer are put into our order, row by row of pixels.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Float, PyTree

from cnn_jax.errors import InputError
from cnn_jax.weights.names import Arrays, to_variables

_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
_LAYER = {"weight": "kernel", "bias": "bias"}


class Pair(NamedTuple):
    """An array of ours and the layer it comes from."""

    ours: str
    theirs: str
    shape: tuple[int, ...]


class Match(NamedTuple):
    """A network's variables, and a line for each of their arrays."""

    variables: PyTree
    pairs: tuple[Pair, ...]


def match_torchvision(weights: Mapping[str, np.ndarray], shapes: Mapping[str, PyTree]) -> Match:
    """Returns torchvision's weights as the variables of one of our networks.

    Args:
      weights: a state dict, such as `load_weights` reads; a prefix "module." is dropped, counts of
        batches (`num_batches_tracked`) are left out.
      shapes: the network's variables as shapes and types, see `models.registry.variable_shapes`.

    Raises:
      InputError: the weights are of none of these networks, or a layer of either side has no
        partner of its shape on the other.
    """
    theirs = _layers(weights)
    if {"conv1", "fc"} <= theirs.keys():
        partners = {name: _resnet_name(name) for name in theirs}
    else:
        partners = _by_order(theirs, shapes)
    first_dense, maps = _flattened(theirs)
    arrays: Arrays = {}
    pairs = []
    for their, our in partners.items():
        for name, array in _relaid(theirs[their], maps if their == first_dense else 1).items():
            arrays[f"{our}/{name}"] = array
            pairs.append(Pair(f"{our}/{name}", their, array.shape))
    try:
        return Match(to_variables(arrays, shapes), tuple(pairs))
    except InputError as error:
        raise InputError(f"the weights don't fit the network: {error}") from error


def _layers(weights: Mapping[str, np.ndarray]) -> dict[str, Arrays]:
    """Returns the arrays of each layer of theirs in the network's order, dense layers last."""
    layers: dict[str, Arrays] = {}
    for name, array in weights.items():
        layer, _, kind = name.removeprefix("module.").rpartition(".")
        if kind != "num_batches_tracked":
            layers.setdefault(layer, {})[kind] = array
    for layer, arrays in layers.items():
        known = _NORM if "running_mean" in arrays else _LAYER
        if not {"weight"} <= arrays.keys() <= known.keys():
            raise _foreign(f"a layer '{layer}' of {', '.join(sorted(arrays))}")
    order = sorted(layers, key=lambda name: (layers[name]["weight"].ndim == 2, _natural(name)))
    return {name: layers[name] for name in order}


def _foreign(what: str) -> InputError:
    return InputError(
        f"these are not the weights of torchvision's VGG, AlexNet or ResNet: there is {what}"
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """Returns a key that sorts the numbers in names as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _resnet_name(their: str) -> str:
    """Returns our name of a layer of ResNet.

    >>> _resnet_name("layer1.0.bn2"), _resnet_name("layer4.1.downsample.0")
    ('conv2_1/norm2', 'conv5_2/conv_shortcut')
    """
    if their == "fc":
        return "logits"
    match = re.fullmatch(r"(?:layer(\d+)\.(\d+)\.)?(conv\d+|bn\d+|downsample\.[01])", their)
    if match is None:
        raise _foreign(f"a layer '{their}'")
    stage, block, layer = match.groups()
    renamed = {"downsample.0": "conv_shortcut", "downsample.1": "norm_shortcut"}
    ours = renamed.get(layer, layer.replace("bn", "norm"))
    return ours if stage is None else f"conv{int(stage) + 1}_{int(block) + 1}/{ours}"


def _by_order(theirs: dict[str, Arrays], shapes: Mapping[str, PyTree]) -> dict[str, str]:
    """Returns the partners in networks without branches: the first convolution the first, ..."""
    strange = [name for name in theirs if not re.fullmatch(r"(features|classifier)\.\d+", name)]
    if strange or not theirs:
        raise _foreign(f"a layer '{strange[0]}'" if strange else "nothing in the file")
    sides: list[dict[str, list[str]]] = [{}, {}]
    for name, arrays in theirs.items():
        sides[0].setdefault(_kind(arrays["weight"].ndim), []).append(name)
    for path, shape in sorted(_leading_arrays(shapes).items(), key=lambda item: _natural(item[0])):
        sides[1].setdefault(_kind(len(shape)), []).append(path)
    for kind in sorted({*sides[0], *sides[1]}):
        counts = [len(side.get(kind, [])) for side in sides]
        if counts[0] != counts[1]:
            raise InputError(
                f"the weights don't fit the network: they have {counts[0]} {kind} layers, the "
                f"network {counts[1]}"
            )
    return {
        their: our
        for kind, names in sides[0].items()
        for their, our in zip(names, sides[1][kind], strict=True)
    }


def _leading_arrays(shapes: Mapping[str, PyTree]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of the kernel or scale of each of our layers."""
    flat = flatten_dict(shapes["params"])
    return {
        "/".join(path[:-1]): tuple(leaf.shape)
        for path, leaf in flat.items()
        if path[-1] in ("kernel", "scale")
    }


def _kind(ndim: int) -> str:
    return {1: "batch-norm", 2: "dense", 4: "convolution"}.get(ndim, f"{ndim}-dimensional")


def _flattened(theirs: dict[str, Arrays]) -> tuple[str, int]:
    """Returns the first dense layer, and how many feature maps it sees one after the other."""
    maps = 1
    for name, arrays in theirs.items():
        if arrays["weight"].ndim == 2:
            return name, maps
        maps = arrays["weight"].shape[0]  # a norm has as many as the convolution before it
    return "", maps


def _relaid(arrays: Arrays, maps: int) -> Arrays:
    """Returns a layer's arrays by our names and in our layout."""
    names = _NORM if "running_mean" in arrays else _LAYER
    relaid = {names[name]: array for name, array in arrays.items()}
    if "kernel" in relaid:
        axes = (2, 3, 1, 0) if relaid["kernel"].ndim == 4 else None
        relaid["kernel"] = relaid["kernel"].transpose(axes)
    if maps > 1:
        relaid["kernel"] = _pixels_first(relaid["kernel"], maps)
    return relaid


def _pixels_first(
    kernel: Float[np.ndarray, "inputs features"], channels: int
) -> Float[np.ndarray, "inputs features"]:
    """Returns a dense kernel for feature maps flattened as (H, W, C) instead of (C, H, W).

    >>> _pixels_first(np.arange(8.0)[:, None], 2).ravel().tolist()
    [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]
    """
    positions, rest = divmod(len(kernel), channels)
    if rest:
        raise InputError(f"a dense layer of {len(kernel)} inputs follows {channels} feature maps")
    return kernel.reshape(channels, positions, -1).swapaxes(0, 1).reshape(len(kernel), -1)
