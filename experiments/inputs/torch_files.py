"""A folder of image files as PyTorch's tutorials read it: Pillow, an array, a tensor."""

import numpy as np
import torch
from PIL import Image


class Files(torch.utils.data.Dataset):
    """Images (H, W, C) as uint8 tensors, and their labels."""

    def __init__(self, paths: list[str], labels: list[int]):
        self._paths, self._labels = paths, labels

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self._paths[index]) as image:
            pixels = np.array(image.convert("RGB"))
        return torch.from_numpy(pixels), self._labels[index]
