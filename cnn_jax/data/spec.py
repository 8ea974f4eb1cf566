"""What a dataset is to the rest of the project: its facts, its splits."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from cnn_jax.data.on_disk import ImagesOnDisk
from cnn_jax.errors import InputError

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

    def check_size(self) -> None:
        """Raises InputError where images differ in size, and so suit no network as they are."""
        if None in self.image_shape:
            raise InputError(
                f"images of {self.name} have no common size; set --config.data.image_size"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Examples: images (N, H, W, C), in host memory or left on disk, and their classes, (N,), or
    for each class whether the example is of it, zeros and ones (N, classes).
    """

    images: UInt8[np.ndarray, "n h w c"] | ImagesOnDisk
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, chosen: Bool[np.ndarray, " n"]) -> "Split":
        """Returns the marked examples, in their order."""
        images = self.images
        kept = images.only(chosen) if isinstance(images, ImagesOnDisk) else images[chosen]
        return Split(kept, self.labels[chosen])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset's facts and its three splits; validation is None where none was asked for.

    `feed` is how examples get to the device: "resident" or "streaming". `skipped` lists the files
    that were left out under `data.on_bad_example=skip`, each with the reason.
    """

    spec: Spec
    train: Split
    validation: Split | None
    test: Split
    skipped: tuple[str, ...] = ()
    feed: str = "resident"


def check_names(names: Iterable[str], where: object) -> None:
    """Raises InputError for a class name that no file could hold: bytes that are no text."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{where}: the class name {name!r} is no valid text (UTF-8); rename the class"
            ) from error


def shape_text(shape: tuple[int | None, ...]) -> str:
    """Returns a shape for a message.

    >>> shape_text((None, 32, 3))
    '? x 32 x 3'
    """
    return " x ".join("?" if size is None else str(size) for size in shape)
