"""What a dataset is to the rest of the project: its facts, its splits."""

import dataclasses

import numpy as np
from jaxtyping import Int32, UInt8

Labels = Int32[np.ndarray, " n"] | UInt8[np.ndarray, "n classes"]


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known of a dataset without decoding it.

    `image_shape` is height, width, channels; a height or width is None where images differ in
    size. Class names are "0", "1", ... where the source has none. `synthetic` marks made-up
    images, so that no result on them passes for one on real data. `multi_label`: an example may
    be of any number of classes.
    """

    name: str
    image_shape: tuple[int | None, int | None, int]
    class_names: tuple[str, ...]
    synthetic: bool = False
    multi_label: bool = False

    @property
    def num_classes(self) -> int:
        """The number of classes; labels run from 0 to one less."""
        return len(self.class_names)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Examples held in host memory: images (N, H, W, C) and their classes, (N,), or for each class
    whether the example is of it, zeros and ones (N, classes).
    """

    images: UInt8[np.ndarray, "n h w c"]
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset's facts and its three splits; validation is None where none was asked for.

    `skipped` lists the files that were left out under `data.on_bad_example=skip`, each with the
    reason.
    """

    spec: Spec
    train: Split
    validation: Split | None
    test: Split
    skipped: tuple[str, ...] = ()


def shape_text(shape: tuple[int | None, ...]) -> str:
    """Returns a shape for a message.

    >>> shape_text((None, 32, 3))
    '? x 32 x 3'
    """
    return " x ".join("?" if size is None else str(size) for size in shape)
