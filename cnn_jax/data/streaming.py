"""Batches read from disk while the device computes, through Grain: for sets too large to hold.

The order is that of `cnn_jax.data.order`, so a streamed run sees the very batches of a resident
one, whatever the number of workers, and goes on after any step.
"""

import collections
from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from cnn_jax.data.order import epoch_order

HostBatch = dict[str, np.ndarray]


@runtime_checkable
class Examples(Protocol):
    """Examples by their index, read and decoded when asked for; must be picklable."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> HostBatch:
        """Returns `image` uint8 (H, W, C) and `label` int32 ()."""


class Stream:
    """The endless stream of one run as a sequence: position p is an example of epoch p // size."""

    def __init__(self, examples: Examples, *, seed: int, length: int):
        self._examples, self._seed, self._length = examples, seed, length
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> HostBatch:
        epoch, offset = divmod(position, len(self._examples))
        order = self._orders.get(epoch)
        if order is None:
            order = epoch_order(self._seed, epoch, len(self._examples))
            # A batch straddles two epochs at most; threads may each compute one, all alike.
            self._orders = {epoch: order, **dict(list(self._orders.items())[:1])}
        index = int(order[offset])
        return {**self._examples[index], "index": np.int32(index), "epoch": np.int32(epoch)}


def train_batches(
    examples: Examples,
    *,
    seed: int,
    batch_size: int,
    start: int,
    stop: int,
    workers: int = 0,
    threads: int = 16,
) -> Iterator[HostBatch]:
    """Yields the batches of steps `start` to `stop`, decoded ahead by threads or processes.

    Args:
      examples: where examples come from.
      seed: the run's seed.
      batch_size: examples a batch.
      start: first step.
      stop: the step after the last.
      workers: processes that decode; 0: threads of this process do.
      threads: threads that decode, in each process.
    """
    import grain  # 0.6 seconds that only streaming runs should spend

    stream = Stream(examples, seed=seed, length=stop * batch_size)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * batch_size)
    dataset = grain.MapDataset.source(stream)[start * batch_size :].batch(batch_size)
    batches = dataset.to_iter_dataset(options)
    if workers:
        _mark_flags_parsed()
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    iterator = iter(batches)
    try:
        yield from iterator
    finally:
        if workers:
            iterator.close()  # or its processes outlive it


def eval_batches(examples: Examples, *, batch_size: int, threads: int = 16) -> Iterator[HostBatch]:
    """Yields all examples in their own order; the last batch is padded, with `mask` false there."""
    import grain

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * batch_size)
    dataset = grain.MapDataset.source(examples).batch(batch_size).to_iter_dataset(options)
    for batch in dataset:
        yield _pad(batch, batch_size)


def _pad(batch: HostBatch, size: int) -> HostBatch:
    count = len(batch["label"])
    indices = np.pad(np.arange(count), (0, size - count))
    padded = {name: array[indices] for name, array in batch.items()}
    return {**padded, "mask": np.arange(size) < count}


def to_device(
    batches: Iterable[HostBatch], sharding: jax.sharding.Sharding, *, ahead: int = 2
) -> Iterator[dict[str, jax.Array]]:
    """Yields batches on the device, `ahead` of them on their way while one is computed on."""
    queue: collections.deque = collections.deque()
    for batch in batches:
        queue.append(jax.device_put(batch, sharding))
        if len(queue) > ahead:
            yield queue.popleft()
    yield from queue


def _mark_flags_parsed() -> None:
    """Grain's workers read absl flags, which are unparsed where no absl command runs."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
