"""Shuffled batches of decoded image files: by this project, by PyTorch's DataLoader, by tf.data."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from experiments.contenders.files import train_files

_WARM = 4  # batches not counted: starting up


def measure(
    contender: str, seconds: float, *, folder: str, batch_size: int, workers: int, threads: int
) -> dict[str, float]:
    """Returns images per second, once the first batches have come.

    `workers` is the number of processes beside this one that decode, where there are such;
    `threads` how many threads of this one do instead.
    """
    batches = CONTENDERS[contender](Path(folder), batch_size, workers, threads)
    for batch in itertools.islice(batches, _WARM):
        shape = batch.shape
    began, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch)
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            break
    return {"rate": count / elapsed, "image_shape": list(shape[1:])}


def _ours(folder: Path, batch_size: int, workers: int, threads: int) -> Iterator:
    from cnn_jax.config import Data
    from cnn_jax.data.datasets import load_dataset
    from cnn_jax.data.streaming import train_batches

    data = Data(name="image_folder", dir=str(folder), feed="streaming", validation_fraction=0.0)
    split = load_dataset(data).train
    options = {"workers": workers, "threads": 0 if workers else threads}
    batches = train_batches(split, seed=0, batch_size=batch_size, start=0, stop=10**6, **options)
    return (batch["image"] for batch in batches)


def _torch(folder: Path, batch_size: int, workers: int, threads: int) -> Iterator:
    from torch.utils.data import DataLoader

    from experiments.contenders.torch_files import Files

    loader = DataLoader(
        Files(*train_files(folder)),
        batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )
    return (images for _ in itertools.count() for images, _ in loader)


def _tf_data(folder: Path, batch_size: int, workers: int, threads: int) -> Iterator:
    import tensorflow as tf

    paths, labels = train_files(folder)
    threads = max(workers, threads)

    def decode(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        content = tf.io.read_file(path)
        return tf.io.decode_image(content, channels=3, expand_animations=False), label

    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    dataset = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths)).repeat()
    dataset = dataset.map(decode, num_parallel_calls=threads).batch(batch_size).prefetch(2)
    return (images for images, _ in dataset.with_options(options).as_numpy_iterator())


CONTENDERS = {"cnn_jax": _ours, "torch": _torch, "tf.data": _tf_data}
