"""Classifies image files with PyTorch as its users do: Pillow in a DataLoader, eager inference.

    python -m experiments.contenders.torch_predict --workdir=DIR [--batch_size=64] IMAGE...

The other side of `experiments.benchmark_predict`: the run's own network and weights, built of
torch.nn, on a GPU if PyTorch sees one. Prints what `experiments.predict` prints.
"""

import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from absl import flags
from torch.utils.data import DataLoader, Dataset

from cnn_jax.analysis.operations import operations
from cnn_jax.cpus import usable_cpus
from cnn_jax.data.decoding import find_images
from cnn_jax.data.spec import Spec
from cnn_jax.training.predictor import Predictor, load_predictor
from experiments import command_line
from experiments.contenders.pytorch import normalization_constants, with_weights
from experiments.contenders.torch_files import load_pixels

flags.FLAGS.set_gnu_getopt()

_WORKDIR = command_line.define_workdir()
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "images at once", lower_bound=1)


class Images(Dataset):
    """Image files as float32 (C, H, W), scaled and cropped as ours, normalised."""

    def __init__(self, paths: Sequence[Path], predictor: Predictor):
        self._paths, self._shape = paths, predictor.spec.image_shape
        self._center_crop = predictor.config.data.center_crop
        self._mean, self._std = normalization_constants(predictor.normalization)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        pixels = load_pixels(self._paths[index], self._shape, center_crop=self._center_crop)
        return (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - self._mean) / self._std


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    predictor = load_predictor(command_line.read_workdir(_WORKDIR))
    paths = [*find_images(argv[1:])]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = operations(predictor.model, predictor.spec.image_shape)
    model = with_weights(found, predictor.variables).to(device)
    # Its workers are forked and never touch jax, which warns of forks all the same.
    warnings.filterwarnings("ignore", "os.fork.. was called")
    loader = DataLoader(
        Images(paths, predictor),
        batch_size=_BATCH_SIZE.value,
        num_workers=usable_cpus(),
        pin_memory=device.type == "cuda",
    )
    height, width, channels = predictor.spec.image_shape
    with torch.inference_mode():
        model(torch.zeros(_BATCH_SIZE.value, channels, height, width, device=device)).cpu()
        began, done = time.perf_counter(), 0
        for images in loader:
            logits = model(images.to(device, non_blocking=True))
            top = logits.softmax(-1).topk(min(5, logits.shape[-1]))
            for chances, indices in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                print(json.dumps(_answer(paths[done], chances, indices, predictor.spec)))
                done += 1
    seconds = time.perf_counter() - began
    print(f"{done:,} images in {seconds:.3f} s: {done / seconds:,.1f} images/s", file=sys.stderr)


def _answer(path: Path, chances: list[float], indices: list[int], spec: Spec) -> dict:
    top = [
        {"class": spec.class_names[i], "index": i, "probability": p}
        for i, p in zip(indices, chances, strict=True)
    ]
    return {"image": str(path), "top": top}


if __name__ == "__main__":
    command_line.run(main)
