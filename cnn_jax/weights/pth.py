"""PyTorch's .pth files, read without PyTorch and without executing what is in them.

Such a file is a zip archive of a pickle and of the tensors' bytes. A pickle is a program that may
call anything; this reader lets it name tensors, their storages and ordered dicts, and nothing else.
What it builds are records of where a tensor lies, so that nothing it can reach has a state to set.
"""

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from cnn_jax.errors import InputError

_KINDS = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights


class _Tensor(NamedTuple):
    storage: str  # the member of the archive that holds its bytes
    kind: str  # a name of _KINDS
    offset: int  # in elements, as the strides
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _RebuildTensor:
    """Stands for `torch._utils._rebuild_tensor_v2`."""

    __slots__ = ()

    def __call__(self, storage: tuple, offset: int, shape: tuple, strides: tuple, *_: Any) -> Any:
        kind, member = storage
        return _Tensor(member, kind, offset, shape, strides)


class _RebuildParameter:
    """Stands for `torch._utils._rebuild_parameter`: a parameter is its tensor."""

    __slots__ = ()

    def __call__(self, tensor: _Tensor, *_: Any) -> _Tensor:
        return tensor


class _Unpickler(pickle.Unpickler):
    """Knows the names that tensors need, and refuses every other before anything is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _RebuildTensor()
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _RebuildParameter()
        if module == "torch" and name in _KINDS:
            return name
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, identity: Any) -> tuple[str, str]:
        _, kind, member, *_ = identity
        return str(kind), str(member)


class _Refused(pickle.UnpicklingError):
    """The pickle names something else than tensors."""


def read_pth(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a file of `torch.save(model.state_dict(), path)` by their names.

    A checkpoint that holds the state dict as "state_dict", "model_state_dict" or "model" does as
    well, if the rest of it is tensors, numbers and text.

    Raises:
      InputError: the file is in PyTorch's format before 1.6, holds other Python objects, of which
        none is made, or is damaged.
    """
    if not zipfile.is_zipfile(path):
        raise InputError(
            f"{path} is no zip archive: damaged, or in PyTorch's format before version 1.6; there, "
            "torch.save(torch.load(OLD), NEW) with a newer PyTorch makes one"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_tensors(archive, path))
    except _Refused as error:
        raise InputError(
            f"{path} holds the Python object {error}, where only tensors may be; nothing of it was "
            "executed. Save weights alone: torch.save(model.state_dict(), FILE)"
        ) from error
    except InputError:
        raise
    except Exception as error:  # what a damaged pickle does can be anything
        raise InputError(f"{path} can't be read as a PyTorch file: {error}") from error


def _tensors(archive: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    pickles = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise InputError(f"{path} is no PyTorch file: it holds {len(pickles)} members data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
        raise InputError(f"{path} is compressed, which PyTorch's files are not")
    with archive.open(pickles[0]) as file:
        content = _Unpickler(file).load()
    big = f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") == b"big"
    for name, tensor in _state_dict(content, path).items():
        storage = np.frombuffer(archive.read(f"{root}data/{tensor.storage}"), _KINDS[tensor.kind])
        array = _array(storage, tensor, f"{path}: {name}")
        yield str(name), array.byteswap() if big else array


def _state_dict(content: Any, path: Path) -> Mapping[str, _Tensor]:
    """Returns the tensors of a state dict, or of one inside a checkpoint."""
    wrapped = [content.get(name) for name in _WRAPPERS] if isinstance(content, dict) else []
    for each in (*wrapped, content):  # beside a state dict there may be tensors, too
        found = each if isinstance(each, dict) else {}
        found = {name: value for name, value in found.items() if isinstance(value, _Tensor)}
        if found:
            return found
    raise InputError(f"{path} holds no state dict: torch.save(model.state_dict(), FILE) writes one")


def _array(storage: np.ndarray, tensor: _Tensor, name: str) -> np.ndarray:
    """Returns a tensor's elements; every index is checked against the bytes that are there."""
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    if any(type(n) is not int or n < 0 for n in numbers):
        raise InputError(f"{name} has a size or an offset that can't be")
    if 0 in tensor.shape:
        return np.empty(tensor.shape, storage.dtype)
    sizes = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((n - 1) * stride for n, stride in sizes)
    if last >= len(storage):
        raise InputError(f"{name} is larger than what is stored of it")
    if math.prod(tensor.shape) > len(storage):
        raise InputError(f"{name} is an expanded tensor; save what its .contiguous() returns")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides).copy()
