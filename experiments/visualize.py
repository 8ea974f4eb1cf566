"""Draws what a config does to its training images, as a PNG.

    python -m experiments.visualize --config=NAME --what=augmentation [--out=FILE]

The picture shows originals, and beside each several draws of every augmentation that the config
turns on. Without --out it is NAME_augmentation.png in the current directory.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from cnn_jax.analysis.augmentation import augmentation_sheet
from cnn_jax.config import Config
from cnn_jax.config_checks import validate
from cnn_jax.data.datasets import load_dataset
from cnn_jax.data.order import epoch_order
from cnn_jax.errors import InputError
from experiments import command_line

_CONFIG = command_line.define_config()
_WHAT = flags.DEFINE_enum("what", "augmentation", ["augmentation"], "what to draw")
_OUT = flags.DEFINE_string("out", None, "the picture's file; default: NAME_WHAT.png")


def draw_augmentation(config: Config) -> np.ndarray:
    """Returns the contact sheet of the first image that training meets of each of eight classes."""
    validate(config)
    train = load_dataset(config.data).train
    order = epoch_order(config.seed, 0, len(train))
    _, met = np.unique(train.labels[order], return_index=True)
    first = order[np.sort(met)[:8]]
    images, labels = train.images[first], train.labels[first]
    return augmentation_sheet(config.data.augment, images, labels, seed=config.seed)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    config = command_line.read_config(_CONFIG)
    out = Path(_OUT.value or f"{config.name}_{_WHAT.value}.png")
    picture = Image.fromarray(draw_augmentation(config))
    try:
        picture.save(out)
    except (OSError, ValueError) as error:  # a ValueError where the ending is no kind of picture
        raise InputError(f"{out} can't be written: {error}") from error
    print(f"wrote {out}", file=sys.stderr)


if __name__ == "__main__":
    command_line.run(main)
