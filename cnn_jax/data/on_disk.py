"""Images that stay on disk and are decoded when they are asked for."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt8

from cnn_jax.data.cropping import Part, random_part

Read = Callable[[np.ndarray, Sequence[Part] | None], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class ImagesOnDisk:
    """Stands in for an array (N, H, W, C) of images; indexing it decodes them, each time anew.

    `read(numbers, parts)` returns images by their numbers, uint8 (K, H, W, C), or of each of them
    the part that is asked for; it can be pickled, as worker processes call it. `numbers` says which
    of them these N are. `sums` are those of each image's values and of their squares, so that means
    and deviations need no second reading.
    """

    read: Read
    numbers: Int[np.ndarray, " n"]
    image_shape: tuple[int, int, int]
    sums: Int64[np.ndarray, "n two c"]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """N, H, W, C."""
        return (len(self), *self.image_shape)

    @property
    def size(self) -> int:
        """The number of values of all images."""
        return len(self) * int(np.prod(self.image_shape))

    def __getitem__(self, which: Int[np.ndarray, " k"] | slice) -> UInt8[np.ndarray, "k h w c"]:
        """Returns images decoded."""
        return self.read(self.numbers[which], None)

    def parts(
        self, which: Int[np.ndarray, " k"], parts: Sequence[Part]
    ) -> UInt8[np.ndarray, "k h w c"]:
        """Returns of each image a part of the whole file, at the size of all."""
        return self.read(self.numbers[which], parts)

    def random_crops(
        self,
        which: Int[np.ndarray, " k"],
        epochs: Int[np.ndarray, " k"],
        *,
        seed: int,
        area: float,
    ) -> UInt8[np.ndarray, "k h w c"]:
        """Returns of each image the `cropping.random_part` of its file in an epoch."""
        keys = [(seed, *key) for key in zip(epochs.tolist(), which.tolist(), strict=True)]
        return self.parts(which, [partial(random_part, key=key, area=area) for key in keys])

    def only(self, chosen: Bool[np.ndarray, " n"]) -> "ImagesOnDisk":
        """Returns the marked images, still on disk."""
        return dataclasses.replace(self, numbers=self.numbers[chosen], sums=self.sums[chosen])


def channel_sums(images: UInt8[np.ndarray, "n h w c"]) -> Int64[np.ndarray, "n two c"]:
    """Returns for each image and channel the sum of the values and that of their squares.

    >>> channel_sums(np.full((1, 2, 2, 1), 3, np.uint8)).tolist()
    [[[12], [36]]]
    """
    wide = images.reshape(len(images), -1, images.shape[-1]).astype(np.uint32)
    sums = [part.sum(axis=1, dtype=np.int64) for part in (wide, wide**2)]
    return np.stack(sums, axis=1)
