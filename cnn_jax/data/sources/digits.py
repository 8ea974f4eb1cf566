"""scikit-learn's handwritten digits as a TFDS dataset that prepares itself without a download.

Importing this module imports tensorflow_datasets (0.4 s) and registers the builder, so that
`tfds.builder("digits")` knows it too; `tfds_builder.open_builder` and `tfds_source.open_prepared`
import it at first need.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8

from cnn_jax.data.carving import choose_test
from cnn_jax.data.sources.prepare import scratch_directory
from cnn_jax.errors import InputError

NUM_TEST = 297  # of 1,797; leaves 1,500 for training
_VERSION = "1.0.0"


class Digits(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the 1,797 digits of 8 × 8 pixels: 1,500 to train on and 297 to test on.

    An example has `image`, uint8 (8, 8, 1), and `label`, 0 to 9. Source: E. Alpaydin, C. Kaynak,
    "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998, the part
    of it that scikit-learn ships.
    """

    VERSION = tfds.core.Version(_VERSION)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="1,797 handwritten digits of 8 x 8 pixels, as scikit-learn ships them.",
            features=tfds.features.FeaturesDict(
                {
                    # A Tensor and not an Image: TFDS encodes arrays as images with TensorFlow.
                    "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        from sklearn.datasets import load_digits  # 1.5 s, needed by the preparation alone

        digits = load_digits()
        images = np.rint(digits.images[..., None] * (255 / 16)).astype(np.uint8)
        labels = digits.target
        is_test = choose_test(labels, count=NUM_TEST)
        return {
            "train": self._generate_examples(images, labels, np.flatnonzero(~is_test)),
            "test": self._generate_examples(images, labels, np.flatnonzero(is_test)),
        }

    def _generate_examples(
        self, images: UInt8[np.ndarray, "n 8 8 1"], labels: Int[np.ndarray, " n"], indices
    ) -> Iterator:
        for index in indices.tolist():
            yield index, {"image": images[index], "label": int(labels[index])}


def is_prepared(data_dir: str | os.PathLike) -> bool:
    """Tells whether the TFDS data directory `data_dir` holds the digits."""
    return (_home(data_dir) / "dataset_info.json").is_file()


def prepare(data_dir: str | os.PathLike) -> None:
    """Writes the digits into the TFDS data directory `data_dir`, unless they are there.

    Written beside their place and then renamed: an interrupted preparation leaves nothing that
    looks prepared, and of several processes that prepare at once the first to finish wins.
    Raises OSError where `data_dir` can't be written. TFDS prints its progress.
    """
    if is_prepared(data_dir):
        return
    home = _home(data_dir)
    home.parent.mkdir(parents=True, exist_ok=True)
    # TFDS's own temporary directory takes its name from `random`: two processes that were seeded
    # alike would share it.
    with scratch_directory(data_dir, "digits") as scratch:
        builder = Digits(data_dir=scratch, file_format="array_record")
        builder.download_and_prepare()
        try:
            os.rename(builder.data_dir, home)
        except OSError:
            if not is_prepared(data_dir):
                raise


def prepare_in_first(places: Sequence[Path]) -> Path:
    """Returns the first of these data directories that holds the digits, else the first in which
    they can be prepared, having done so. Raises InputError if none can be written.
    """
    for place in places:
        if is_prepared(place):
            return place
    for place in places:
        with contextlib.suppress(OSError):
            prepare(place)
            return place
    raise InputError(
        f"digits can't be written to {' or '.join(map(str, places))}; "
        "set TFDS_DATA_DIR to a directory that can be written"
    )


def _home(data_dir: str | os.PathLike) -> Path:
    return Path(data_dir) / "digits" / _VERSION
