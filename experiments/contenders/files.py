"""Made-up image files of a size and format, as many as wanted: a few, and links to them."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

_DRAWN = 200  # pictures that differ; further files are further names of these


def write_folder(
    root: Path, *, count: int, size: tuple[int, int], extension: str, classes: int = 2
) -> None:
    """Writes train/CLASS/* with `count` images in all and test/CLASS/* with two.

    The pictures, of `size` (height, width), are smooth with some noise, so that they compress about
    as photographs do.
    """
    rng = np.random.default_rng(0)
    pictures = [_encode(root, rng, size, number, extension) for number in range(min(count, _DRAWN))]
    for number in range(count):
        folder = root / "train" / f"{number % classes:04}"
        _link(pictures[number % len(pictures)], folder, number)
    for number in range(2):
        picture = _encode(root, rng, size, _DRAWN + number, extension)
        _link(picture, root / "test" / f"{number:04}", 0)


def train_files(root: Path) -> tuple[list[str], list[int]]:
    """Returns the paths of the training images of a folder, and their labels."""
    paths = sorted((root / "train").glob("*/*"))
    return list(map(str, paths)), [int(path.parent.name) for path in paths]


def _encode(
    root: Path, rng: np.random.Generator, size: tuple[int, int], number: int, extension: str
) -> Path:
    (root / ".drawn").mkdir(parents=True, exist_ok=True)
    height, width = size
    grid = (max(1, height // 8), max(1, width // 8), 3)
    coarse = Image.fromarray(rng.integers(0, 256, grid, np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
    path = root / ".drawn" / f"{number}.{extension}"
    Image.fromarray(noisy).save(path)
    return path


def _link(picture: Path, folder: Path, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.link(picture, folder / f"{number:07}{picture.suffix}")
