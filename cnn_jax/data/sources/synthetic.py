"""Made-up images with a signal that can be learned, for benchmarks and smoke tests."""

import numpy as np
from jaxtyping import UInt8

from cnn_jax.config import Data
from cnn_jax.data.sources.memory import check_memory, choose_feed
from cnn_jax.data.spec import Dataset, Spec, Split

_GRID = 4  # each class is a picture of 4 × 4 fields of random colour
_CHUNK = 2**24  # pixels made at once
_PICTURES, _TRAIN, _TEST = 1, 2, 3  # keys of Philox


def spec(data: Data) -> Spec:
    """Returns the facts of the made-up dataset, which is marked as synthetic."""
    made = data.synthetic
    height, width, channels = made.image_shape
    names = tuple(f"class {label}" for label in range(made.classes))
    return Spec("synthetic", (height, width, channels), names, synthetic=True)


def load(data: Data, *, memory: int | None = None) -> Dataset:
    """Makes images up as `data.synthetic` says: a picture for each class, under heavy noise.

    A class's picture is a 4 × 4 grid of random colours over the whole image. An image is half
    its class's picture and half noise, and its label counts through the classes. All numbers come
    from Philox's raw output by whole-number arithmetic, so that they are the same on every machine.
    """
    facts, made = spec(data), data.synthetic
    examples = made.train_examples + made.test_examples
    check_memory(examples, facts.image_shape, "synthetic")  # also if it is streamed
    feed = choose_feed(data, examples, facts.image_shape, "synthetic", memory=memory)
    channels = facts.image_shape[2]
    pictures = _random_bytes(_PICTURES, (facts.num_classes, _GRID, _GRID, channels))
    train, test = (
        _make(pictures, facts, count, key)
        for count, key in ((made.train_examples, _TRAIN), (made.test_examples, _TEST))
    )
    return Dataset(facts, train, None, test, feed=feed)


def _make(pictures: UInt8[np.ndarray, "k 4 4 c"], facts: Spec, count: int, key: int) -> Split:
    height, width, _ = facts.image_shape
    rows, columns = (np.arange(size) * _GRID // size for size in (height, width))
    labels = (np.arange(count) % facts.num_classes).astype(np.int32)
    images = np.empty((count, *facts.image_shape), np.uint8)
    step = max(1, _CHUNK // images[:1].size)
    for start in range(0, count, step):
        part = images[start : start + step]
        noise = _random_bytes(key, part.shape, start // step)
        picture = pictures[labels[start : start + step]][:, rows][:, :, columns]
        part[:] = (picture.astype(np.uint16) + noise) // 2
    return Split(images, labels)


def _random_bytes(key: int, shape: tuple[int, ...], block: int = 0) -> UInt8[np.ndarray, "..."]:
    size = int(np.prod(shape))
    words = np.random.Philox(key=[key, block]).random_raw(-(-size // 8))
    return words.astype("<u8").view(np.uint8)[:size].reshape(shape)
