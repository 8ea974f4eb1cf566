"""A run's network written for others to use: as a StableHLO program, or as its bare weights.

Each file is read back and its logits compared with the run's own before it gets its name, and has a
JSON file beside it that says what it takes and gives.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from jaxtyping import Float, UInt8

from cnn_jax.data.normalization import Normalization
from cnn_jax.errors import InputError, RunError, writing
from cnn_jax.placement import replicated
from cnn_jax.training.predictor import Predictor, compile_logits
from cnn_jax.training.run_directory import is_of_run
from cnn_jax.weights.files import read_safetensors
from cnn_jax.weights.names import CONSTANTS, Arrays, by_name, to_variables
from cnn_jax.whole_files import replacing, write_json

PLATFORMS = ("cpu", "cuda", "tpu")
# How far the logits may be from the run's own, as a share of the largest: another program rounds in
# another order. Accelerators multiply float32 in TF32 or bfloat16 unless told otherwise.
TOLERANCE, TOLERANCE_LOW = 1e-4, 5e-2
_CHECKED = (1, 5)  # images at once, in the comparison

Logits = Callable[[UInt8[np.ndarray, "n h w c"]], Float[np.ndarray, "n classes"]]


def export_stablehlo(predictor: Predictor, path: Path) -> float:
    """Writes a program of `jax.export`: uint8 images (b, H, W, C) of any b → float32 logits.

    Normalisation is inside, and so are the weights. It runs on a CPU, a GPU and a TPU, and
    `jax.export.deserialize(bytearray(file.read())).call(images)` needs jax alone.

    Returns:
      how far its logits are from the run's own at most, as a share of the largest logit.

    Raises:
      InputError: the file can't be written.
      RunError: its logits are not the run's.
    """
    if find_spec("flatbuffers") is None:
        raise RunError("jax.export writes with the package flatbuffers: pip install flatbuffers")
    variables = jax.device_get(predictor.variables)
    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *predictor.spec.image_shape), np.uint8)
    program = jax.jit(lambda images: predictor.logits(variables, images))
    exported = export.export(program, platforms=PLATFORMS)(images)
    with _replacing(path) as temporary:
        temporary.write_bytes(exported.serialize())
        again = export.deserialize(bytearray(temporary.read_bytes()))
        difference = _compare(predictor, jax.jit(again.call))
        _describe(predictor, path, format="stablehlo", platforms=PLATFORMS)
    return difference


def export_safetensors(predictor: Predictor, path: Path) -> float:
    """Writes the weights, float32, by names like "conv1/kernel", and the normalisation's constants.

    Returns and raises what `export_stablehlo` does.
    """
    from safetensors.numpy import save

    constants = {
        f"{CONSTANTS}{name}": value
        for name, value in vars(predictor.normalization).items()
        if isinstance(value, np.ndarray)
    }
    layout = {
        "kernels": "convolutions HWIO (height, width, inputs, outputs), dense (inputs, outputs)",
        "images": "NHWC, flattened in this order before dense layers",
    }
    with _replacing(path) as temporary:
        temporary.write_bytes(save(by_name(predictor.variables) | constants, metadata=layout))
        again = _restore(predictor, read_safetensors(temporary))
        difference = _compare(predictor, compile_logits(again, max(_CHECKED)))
        _describe(predictor, path, format="safetensors", layout=layout)
    return difference


def _restore(predictor: Predictor, arrays: Arrays) -> Predictor:
    """Returns a predictor whose every number is the file's."""
    constants = {
        name.removeprefix(CONSTANTS): arrays.pop(name)
        for name in [*arrays]
        if name.startswith(CONSTANTS)
    }
    variables = to_variables(arrays, predictor.variables)
    return dataclasses.replace(
        predictor,
        variables=jax.device_put(variables, replicated(predictor.mesh)),
        normalization=Normalization(predictor.normalization.kind, **constants),
    )


def _compare(predictor: Predictor, logits_fn: Logits) -> float:
    """Returns the largest difference from the run's own logits, as a share of the largest logit.

    Raises:
      RunError: it is more than rounding.
    """
    own, rng = compile_logits(predictor, max(_CHECKED)), np.random.default_rng(0)
    worst = 0.0
    for count in _CHECKED:
        images = rng.integers(0, 256, (count, *predictor.spec.image_shape), np.uint8)
        expected = own(images)
        if not np.isfinite(expected).all():
            raise RunError("the run's own logits are not finite; no file was written")
        difference = np.abs(np.asarray(logits_fn(images)) - expected).max()
        worst = np.maximum(worst, difference / max(np.abs(expected).max(), 1e-6))
    exact = predictor.config.train.dtype == "float32" and jax.default_backend() == "cpu"
    allowed = TOLERANCE if exact else TOLERANCE_LOW
    if not worst <= allowed:
        raise RunError(
            f"the exported network's logits differ from the run's by {worst:.1e} of the largest, "
            f"more than {allowed:g}; no file was written"
        )
    return float(worst)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yields where to write; what is there at the end becomes `path`, unless something failed.

    Raises:
      InputError: it can't be written.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; --out must be a file")
    for written in (path, _beside(path)):
        if is_of_run(written):
            raise InputError(f"{written} is a file of a run, which needs it; give another --out")
    with writing(path, InputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch:
            yield scratch


def _describe(predictor: Predictor, path: Path, **facts: Any) -> None:
    spec = predictor.spec
    known = {
        "inputs": "uint8 images (b, height, width, channels) of image_shape, any b",
        "outputs": "float32 logits (b, classes)",
        "probabilities": "sigmoid of each logit" if predictor.sigmoids else "softmax of the logits",
        "image_shape": spec.image_shape,
        "class_names": spec.class_names,
        "dataset": spec.name,
        "step": predictor.step,
        "normalization": predictor.normalization.kind,
        "config": dataclasses.asdict(predictor.config),
    }
    write_json(_beside(path), facts | known)


def _beside(path: Path) -> Path:
    """Returns the JSON file that lies beside an exported one."""
    return path.with_name(f"{path.name}.json")
