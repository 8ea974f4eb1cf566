"""Image files as PyTorch's tutorials read them: Pillow, an array, a tensor."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cnn_jax.data.cropping import central_part


class Files(torch.utils.data.Dataset):
    """Images (H, W, C) as uint8 tensors, and their labels; see `load_pixels`."""

    def __init__(
        self, paths: list[str], labels: list[int], image_shape: tuple[int, int, int] | None = None
    ):
        self._paths, self._labels, self._image_shape = paths, labels, image_shape

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = load_pixels(self._paths[index], self._image_shape)
        return torch.from_numpy(pixels), self._labels[index]


def load_pixels(
    path: Path | str, image_shape: tuple[int, int, int] | None = None, *, center_crop: float = 1.0
) -> np.ndarray:
    """Returns an image (H, W, C) of `image_shape`, its shorter side scaled and its centre cropped.

    The centre is `center_crop` of the largest there is. Without a shape it is the whole image in
    RGB.
    """
    gray = image_shape is not None and image_shape[-1] == 1
    with Image.open(path) as image:
        image = image.convert("L" if gray else "RGB")
    if image_shape is None:
        return np.array(image)
    height, width, _ = image_shape
    box = central_part((image.height, image.width), (height, width), share=center_crop)
    pixels = np.array(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return pixels.reshape(image_shape)
