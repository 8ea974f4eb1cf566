"""Makes a run directory of weights that come from elsewhere, at its step 0.

    python -m experiments.import_weights --config=vgg16_imagenet --weights=FILE --workdir=DIR
        [--class_names=FILE] [--mean=0.485,0.456,0.406] [--std=0.229,0.224,0.225]

FILE is .safetensors, .npz or a .pth of PyTorch (a state dict; nothing in it is executed) with
torchvision's VGG, AlexNet (--config.model.name=alexnet_owt --config.data.image_size=224) or ResNet,
or what `experiments.export` wrote. Each array must find its place in the config's network and be of
its shape; which became which is told on stderr. Classes are those of the config's dataset, unless
--class_names names them, one a line. Images are normalised by --mean and --std, for pixels in
[0, 1]; by default torchvision's for ImageNet, or what the file itself has.

The directory serves predict, export, visualize and evaluate. Prints one JSON object.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from jaxtyping import PyTree

from cnn_jax.config import is_population
from cnn_jax.config_checks import validate
from cnn_jax.data.datasets import dataset_spec
from cnn_jax.data.normalization import IMAGENET_MEAN, IMAGENET_STD, Normalization, misfit
from cnn_jax.data.spec import Spec, shape_text
from cnn_jax.errors import InputError
from cnn_jax.models.registry import count_parameters, variable_shapes
from cnn_jax.training.network import build_network
from cnn_jax.training.new_run import write_run
from cnn_jax.weights.files import load_weights
from cnn_jax.weights.names import CONSTANTS, Arrays, to_variables
from cnn_jax.weights.torchvision import Match, Pair, match_torchvision
from experiments import command_line

_CONFIG = command_line.define_config()
_WEIGHTS = flags.DEFINE_string("weights", None, "a .safetensors, .npz or .pth file")
_WORKDIR = flags.DEFINE_string("workdir", None, "the run directory to make")
_CLASS_NAMES = flags.DEFINE_string("class_names", None, "a text file, a class a line")
_MEAN = flags.DEFINE_list("mean", None, "of each channel; default: ImageNet's")
_STD = flags.DEFINE_list("std", None, "of each channel; default: ImageNet's")


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    config = command_line.read_config(_CONFIG)
    for name in ("weights", "workdir"):
        if flags.FLAGS[name].value is None:
            raise InputError(f"--{name} is missing")
    validate(config)
    if is_population(config):
        raise InputError("weights are of one network; leave --config.population out")
    spec = _spec(dataset_spec(config.data))
    model = build_network(config, spec)
    weights = load_weights(Path(_WEIGHTS.value))
    normalization = _normalization(weights, spec.image_shape)
    match = _match(weights, variable_shapes(model, spec.image_shape))
    workdir, variables = Path(_WORKDIR.value), match.variables
    write_run(workdir, config, spec=spec, normalization=normalization, variables=variables)
    for pair in match.pairs:
        print(f"{pair.ours:32} {shape_text(pair.shape):>20}  <- {pair.theirs}", file=sys.stderr)
    facts = {
        "workdir": str(workdir),
        "weights": _WEIGHTS.value,
        "arrays": len(match.pairs),
        "parameters": count_parameters(variables["params"]),
        "mean": normalization.mean.tolist(),
        "std": normalization.std.tolist(),
    }
    print(json.dumps(facts))


def _spec(spec: Spec) -> Spec:
    """Returns the dataset's facts, with the class names of the command line if it has some."""
    spec.check_size()
    if _CLASS_NAMES.value is None:
        return spec
    try:
        lines = Path(_CLASS_NAMES.value).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--class_names={_CLASS_NAMES.value} can't be read: {error}") from error
    return dataclasses.replace(
        spec, class_names=tuple(line.strip() for line in lines if line.strip())
    )


def _match(weights: Arrays, shapes: PyTree) -> Match:
    """Returns our own names as they are, torchvision's as what they are here."""
    own = {name: each for name, each in weights.items() if not name.startswith(CONSTANTS)}
    if not any("/" in name for name in own):
        return match_torchvision(own, shapes)
    pairs = tuple(Pair(name, name, own[name].shape) for name in sorted(own))
    return Match(to_variables(own, shapes), pairs)


def _normalization(weights: Arrays, image_shape: tuple[int, int, int]) -> Normalization:
    """Returns the constants of the command line, else the file's, else ImageNet's."""
    stored = {
        name.removeprefix(CONSTANTS): each
        for name, each in weights.items()
        if name.startswith(CONSTANTS)
    }
    given = _MEAN.value is not None or _STD.value is not None
    if {"mean", "std"} <= stored.keys() and not given:
        if problem := misfit(stored, image_shape):
            raise InputError(f"in the file {CONSTANTS}{problem}; give --mean and --std")
        return Normalization("zca" if "whitening" in stored else "mean_std", **stored)
    channels = image_shape[2]
    if channels != len(IMAGENET_MEAN) and not (_MEAN.value and _STD.value):
        raise InputError(
            f"the default --mean and --std are ImageNet's, of {len(IMAGENET_MEAN)} channels; the "
            f"images have {channels}: give both"
        )
    mean = _constants("mean", _MEAN.value or IMAGENET_MEAN, channels)
    std = _constants("std", _STD.value or IMAGENET_STD, channels)
    if not (std > 0).all():
        raise InputError(f"--std is {std.ravel().tolist()}; each must be above 0")
    return Normalization("mean_std", mean, std)


def _constants(name: str, values: Sequence, channels: int) -> np.ndarray:
    try:
        numbers = np.array([float(value) for value in values], np.float32)
    except ValueError as error:
        raise InputError(f"--{name} is {','.join(values)}; it must be numbers") from error
    if not np.isfinite(numbers).all():
        raise InputError(f"--{name} is {','.join(map(str, values))}; it must be finite")
    if len(numbers) not in (1, channels):
        raise InputError(
            f"--{name} has {len(numbers)} numbers; the images have {channels} channels"
        )
    return np.broadcast_to(numbers, (1, 1, channels))


if __name__ == "__main__":
    command_line.run(main)
