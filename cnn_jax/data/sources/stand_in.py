"""A stand-in for TensorFlow while TFDS prepares a dataset.

TFDS imports TensorFlow to prepare data, though most image datasets need of it no more than to open
files, and to encode arrays as PNG. Here these few calls are answered by Python and Pillow: the
files that come out hold the same pixels. It is a patch of TFDS's modules, not of the process: no
module called tensorflow appears. Builders that need more say so, and need the real one.
"""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

# Modules of builders that call TensorFlow for nothing but what is answered here.
_COVERED = {
    "tensorflow_datasets.image_classification.cifar",
    "tensorflow_datasets.image_classification.mnist",  # fashion_mnist, kmnist and emnist too
}
# Modules of TFDS's core: unpacking archives, and sorting what doesn't fit into memory.
_CORE = ("tensorflow_datasets.core.download.extractor", "tensorflow_datasets.core.shuffle")


def is_enough(builder: Any) -> bool:
    """Tells whether a builder can be prepared with the stand-in, as far as its module shows."""
    module = _module_of(builder)
    return module.__name__ in _COVERED or not hasattr(module, "tf")


@contextlib.contextmanager
def stand_in(builder: Any) -> Iterator[None]:
    """Puts the stand-in into the modules that prepare `builder`, for the time of the context.

    What it doesn't answer raises ModuleNotFoundError of tensorflow, or AttributeError.
    """
    from tensorflow_datasets.core.features.image_feature import _ImageEncoder

    modules = [importlib.import_module(name) for name in _CORE]
    if _module_of(builder).__name__ in _COVERED:
        modules.append(_module_of(builder))
    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.enter_context(replaced(module, "tf", _tensorflow()))
        stack.enter_context(replaced(_ImageEncoder, "_encode_image", _encode_image))
        yield


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Gives an attribute another value for the time of the context."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _tensorflow() -> SimpleNamespace:
    gfile = SimpleNamespace(GFile=open, exists=os.path.exists, remove=os.remove)
    errors = SimpleNamespace(ResourceExhaustedError=_Never)
    compat = SimpleNamespace(as_text=os.fsdecode)
    return SimpleNamespace(io=SimpleNamespace(gfile=gfile), errors=errors, compat=compat)


class _Never(Exception):
    """An error of TensorFlow's that files opened by Python don't raise."""


def _encode_image(encoder: Any, image: np.ndarray) -> bytes:
    """Encodes an array as TFDS's image feature does; takes the place of a method of it."""
    fits = len(image.shape) == len(encoder.shape) and all(
        wanted in (None, size) for wanted, size in zip(encoder.shape, image.shape, strict=True)
    )
    if image.dtype != encoder.np_dtype or not fits:
        raise ValueError(
            f"an image is {image.dtype} of shape {image.shape}; "
            f"the dataset says {np.dtype(encoder.np_dtype)} of {encoder.shape}"
        )
    if encoder.encoding_format != "png" or image.dtype != np.uint8:
        raise ModuleNotFoundError("images other than 8-bit PNG", name="tensorflow")
    file = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, format="PNG")
    return file.getvalue()


def _module_of(builder: Any) -> ModuleType:
    return sys.modules[type(builder).__module__]
