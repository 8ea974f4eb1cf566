"""Arrays kept on disk between runs, since decoding images takes far longer than reading arrays."""

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np

from cnn_jax.whole_files import replacing

_FORMAT = 3  # to be raised when what is cached changes


def cache_dir() -> Path:
    """Returns where derived data is kept: CNN_JAX_CACHE, else XDG_CACHE_HOME/cnn_jax, else
    ~/.cache/cnn_jax; absolute, not necessarily there.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    chosen = os.environ.get("CNN_JAX_CACHE") or os.path.join(base, "cnn_jax")
    return Path(chosen).expanduser().absolute()


def cache_path(dataset: str, part: str, *identity: object) -> Path:
    """Returns the cache file of a part of a dataset, named after all that its content depends on.

    `identity` is whatever tells this content from another: files with their sizes and times,
    options of the decoding. It must print the same in every process.
    """
    digest = hashlib.sha256(repr((_FORMAT, identity)).encode()).hexdigest()[:16]
    return cache_dir() / "datasets" / dataset / f"{part}-{digest}.npz"


def read_cache(path: Path) -> dict[str, np.ndarray] | None:
    """Returns the arrays of a cache file, or None where there is none or a damaged one."""
    try:
        # Opened here, as np.load leaves a damaged file open. Reading a zip compares its checksums.
        with open(path, "rb") as file, np.load(file) as arrays:
            return dict(arrays)
    except Exception:  # each part of a zip, damaged, has its own kinds
        return None


def write_cache(path: Path, **arrays: np.ndarray) -> None:
    """Writes a cache file, whole or not at all; where it can't be written, not at all."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch, open(scratch, "wb") as file:
            np.savez(file, **arrays)
