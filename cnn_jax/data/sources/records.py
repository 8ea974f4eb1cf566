"""The records of a TFDS split, read at random and decoded without TensorFlow."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from cnn_jax.data.cropping import Part
from cnn_jax.data.sources.image_file import decode_image, fit_array
from cnn_jax.data.sources.quiet import no_warnings
from cnn_jax.data.sources.tfrecord import read_records
from cnn_jax.errors import InputError

Example = tuple[UInt8[np.ndarray, "h w c"], int]
Decode = Callable[[bytes, Part], Example]


def is_random_access(builder: Any) -> bool:
    """Whether records can be read in any order; of TFRecord files they can't."""
    return builder.info.file_format.value == "array_record"


class Records:
    """Images of a split by their numbers; it can be pickled, for worker processes.

    `part` of each is scaled to `size`, unless that is 0.
    """

    def __init__(self, builder: Any, split: str, *, size: int, part: Part, what: str):
        import tensorflow_datasets as tfds

        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        self._source = builder.as_data_source(split=split, deserialize_method=raw)
        self._size, self._part, self._what = size, part, what

    @functools.cached_property
    def _decode(self) -> Decode:
        return decoder(self._source.dataset_info.features, self._size)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_decode"}

    def examples(
        self, numbers: range | list[int], parts: Iterable[Part] | None = None
    ) -> list[Example]:
        """Returns images and labels."""
        records = self._source.__getitems__(list(numbers))
        with no_warnings():
            return list(map(self._decode, records, parts or itertools.repeat(self._part)))

    def __call__(
        self, numbers: Int[np.ndarray, " k"], parts: Sequence[Part] | None = None
    ) -> UInt8[np.ndarray, "k h w c"]:
        """Returns images, or of each another part than the usual one.

        Raises:
          InputError: they can't be read any more.
        """
        try:
            return np.stack([image for image, _ in self.examples(numbers.tolist(), parts)])
        except Exception as error:  # of whatever kind array_record, protobuf or Pillow have
            raise InputError(f"{self._what} can't be read any more: {error}") from error


def in_turn(builder: Any, split: str, *, size: int, part: Part) -> Callable[[range], list[Example]]:
    """Returns what reads the next examples of a split of TFRecord files, as many as are asked."""
    info = builder.info
    records = read_records(info.splits[split].file_instructions)
    decode = decoder(info.features, size)

    def read(numbers: range) -> list[Example]:
        return [decode(record, part) for record in itertools.islice(records, len(numbers))]

    return read


def decoder(features: Any, size: int) -> Decode:
    """Returns what makes an image, a part scaled to `size` unless that is 0, and a label.

    Images that TFDS keeps as files are decoded as those of a folder are; others are TFDS's matter.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.proto import tf_example_pb2

    image, channels = features["image"], features["image"].shape[-1]
    if not isinstance(image, tfds.features.Image) or channels not in (1, 3):

        def decode_by_tfds(record: bytes, part: Part) -> Example:
            example = features.deserialize_example_np(record)
            return fit_array(example["image"], size, part=part), int(example["label"])

        return decode_by_tfds

    def decode(record: bytes, part: Part) -> Example:
        found = tf_example_pb2.Example.FromString(record).features.feature
        content = found["image"].bytes_list.value[0]
        pixels = decode_image(content, size=size, channels=channels, part=part)
        return pixels, found["label"].int64_list.value[0]

    return decode
