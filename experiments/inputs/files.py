"""Made-up image files of a size and format, as many as wanted: a few, and links to them."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

_DRAWN = 200  # pictures that differ; further files are further names of these


def write_folder(root: Path, *, count: int, size: int, extension: str) -> Path:
    """Writes train/{a,b}/* with `count` images and test/{a,b}/* with one each; returns `root`.

    The pictures are smooth with some noise, so that they compress about as photographs do.
    """
    rng = np.random.default_rng(0)
    pictures = [_encode(root, rng, size, number, extension) for number in range(min(count, _DRAWN))]
    for number in range(count):
        _link(pictures[number % len(pictures)], root / "train" / "ab"[number % 2], number)
    for number in range(2):
        _link(_encode(root, rng, size, _DRAWN + number, extension), root / "test" / "ab"[number], 0)
    return root


def _encode(root: Path, rng: np.random.Generator, size: int, number: int, extension: str) -> Path:
    (root / ".drawn").mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(rng.integers(0, 256, (size // 8, size // 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
    path = root / ".drawn" / f"{number}.{extension}"
    Image.fromarray(noisy).save(path)
    return path


def _link(picture: Path, folder: Path, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.link(picture, folder / f"{number:07}{picture.suffix}")
