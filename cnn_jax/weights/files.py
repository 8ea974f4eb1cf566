"""Weights from .safetensors, .npz and .pth files, as a table of names and arrays."""

import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np

from cnn_jax.errors import InputError
from cnn_jax.weights.names import Arrays
from cnn_jax.weights.pth import read_pth

_KINDS = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
}


def load_weights(path: Path) -> Arrays:
    """Returns the arrays that a file holds by their names; those of low precision as float32.

    Nothing in the file is executed, whatever it is.

    Raises:
      InputError: there is no such file, it is of another kind, damaged, or holds no numbers.
    """
    readers = {".safetensors": read_safetensors, ".npz": _read_npz, ".pth": read_pth}
    readers[".pt"] = read_pth
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.suffix not in readers:
        raise InputError(f"{path} is none of {', '.join(readers)}")
    arrays = readers[path.suffix](path)
    return {name: _widened(array, f"{path}: {name}") for name, array in arrays.items()}


def read_safetensors(path: Path) -> Arrays:
    """Returns the arrays of a .safetensors file as they are.

    Raises:
      InputError: it can't be read.
    """
    import safetensors

    try:
        return {
            name: np.frombuffer(each["data"], _KINDS[each["dtype"]]).reshape(each["shape"])
            for name, each in safetensors.deserialize(path.read_bytes())
        }
    except (OSError, safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path} can't be read as safetensors: {error}") from error


def _read_npz(path: Path) -> Arrays:
    try:
        # Opened here, as np.load leaves a damaged file open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} can't be read as .npz: {error}") from error


def _widened(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == ml_dtypes.bfloat16 or array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.kind not in "biu":  # .npz files keep bfloat16 as bytes without a meaning
        raise InputError(f"{name} is of the type {array.dtype}; weights are real numbers")
    return array
