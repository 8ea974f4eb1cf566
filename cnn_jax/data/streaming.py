"""Batches decoded while the device computes, through Grain: for sets too large to hold on it.

The order is that of `cnn_jax.data.order`, so a streamed run sees the very batches of a resident
one, whatever the number of workers, and goes on after any step. Grain's element is a whole batch:
what it spends on an element is more than a small image takes to decode.
"""

import contextlib
import gc
import itertools
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Int, PyTree, UInt8

from cnn_jax.cpus import usable_cpus
from cnn_jax.data.order import epoch_order
from cnn_jax.data.spec import Split
from cnn_jax.placement import place

HostBatch = dict[str, np.ndarray]
AHEAD = 2  # batches on the device that no step has taken yet


class Stream:
    """The batches of one run as a sequence: element t is the batch of step t."""

    def __init__(self, split: Split, *, seed: int, batch_size: int, stop: int, crop: float):
        self._split, self._seed, self._crop = split, seed, crop
        self._batch_size, self._stop = batch_size, stop
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self._stop

    def __getitem__(self, step: int) -> HostBatch:
        """Returns `image` uint8 (B, H, W, C), and int32 (B,) `label`, `index` and `epoch`."""
        positions = step * self._batch_size + np.arange(self._batch_size)
        epochs, offsets = np.divmod(positions, len(self._split))
        indices = np.empty(self._batch_size, np.int32)
        for epoch in np.unique(epochs):
            now = epochs == epoch
            indices[now] = self._order(int(epoch))[offsets[now]]
        images, labels = self._images(indices, epochs), self._split.labels[indices]
        return {"image": images, "label": labels, "index": indices, "epoch": np.int32(epochs)}

    def _images(
        self, indices: Int[np.ndarray, " b"], epochs: Int[np.ndarray, " b"]
    ) -> UInt8[np.ndarray, "b h w c"]:
        if not self._crop:
            return self._split.images[indices]
        return self._split.images.random_crops(indices, epochs, seed=self._seed, area=self._crop)

    def _order(self, epoch: int) -> Int[np.ndarray, " size"]:
        order = self._orders.get(epoch)
        if order is None:
            order = epoch_order(self._seed, epoch, len(self._split))
            # A batch straddles two epochs at most; threads may each compute one, all alike.
            self._orders = {epoch: order, **dict(list(self._orders.items())[:1])}
        return order


class _InOrder:
    """The batches of a split in its own order; the last is padded, with `mask` false there."""

    def __init__(self, split: Split, batch_size: int):
        self._split, self._batch_size = split, batch_size

    def __len__(self) -> int:
        return -(-len(self._split) // self._batch_size)

    def __getitem__(self, number: int) -> HostBatch:
        first = number * self._batch_size
        count = min(self._batch_size, len(self._split) - first)
        padded = np.pad(np.arange(count), (0, self._batch_size - count))
        images = self._split.images[first : first + count][padded]
        labels = self._split.labels[first : first + count][padded]
        return {"image": images, "label": labels, "mask": np.arange(self._batch_size) < count}


def train_batches(
    split: Split,
    *,
    seed: int,
    batch_size: int,
    start: int,
    stop: int,
    crop: float = 0.0,
    workers: int = 0,
    threads: int = 0,
) -> Iterator[HostBatch]:
    """Yields the batches of steps `start` to `stop`, decoded ahead by threads or processes.

    Args:
      split: where examples come from.
      seed: the run's seed.
      batch_size: examples a batch.
      start: first step.
      stop: the step after the last.
      crop: of each file a random part of at least this share of its area, see
        `cropping.random_part`; 0: the images as the split has them.
      workers: processes that decode; 0: threads of this process do.
      threads: threads that decode, in each process, a batch each; 0: one for each processor that
        this process may use, and of each worker one.
    """
    stream = Stream(split, seed=seed, batch_size=batch_size, stop=stop, crop=crop)
    return _read_ahead(stream, start=start, workers=workers, threads=threads)


def eval_batches(split: Split, *, batch_size: int) -> Iterator[HostBatch]:
    """Yields all examples in their own order; the last batch is padded, with `mask` false there."""
    return _read_ahead(_InOrder(split, batch_size))


def _read_ahead(
    batches: Any, *, start: int = 0, workers: int = 0, threads: int = 0
) -> Iterator[HostBatch]:
    import grain  # 0.6 seconds that only streaming runs should spend

    threads = threads or (1 if workers else usable_cpus())
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    dataset = grain.MapDataset.source(batches)[start:].to_iter_dataset(options)
    if not workers:
        yield from dataset
        return
    _mark_flags_parsed()
    processes = grain.MultiprocessingOptions(num_workers=workers)
    iterator = iter(dataset.mp_prefetch(processes, worker_init_fn=_end_with_the_run))
    try:
        with _deaf_to_stop_signals():
            first = list(itertools.islice(iterator, 1))  # starts the processes
        # Copied out of the shared memory, which the device's array would otherwise hold on to.
        for batch in itertools.chain(first, iterator):
            yield jax.tree.map(np.array, batch)
    finally:
        iterator.close()  # or its processes outlive it
        # The end that Grain raised holds on to batches in shared memory, in a cycle. Left until
        # Python ends, they would be told of as leaked.
        gc.collect()


class Prefetch:
    """Batches on their way to the device, brought by a thread while steps are computed.

    Iterate it once, and close it: `contextlib.closing`.
    """

    def __init__(self, batches: Iterator[HostBatch], sharding: NamedSharding):
        self._queue: queue.Queue = queue.Queue(AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._bring, args=(batches, sharding), daemon=True, name="prefetch"
        )
        self._thread.start()

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    @property
    def empty(self) -> bool:
        """Whether the next batch would have to be waited for."""
        return self._queue.empty()

    def close(self) -> None:
        """Ends the thread, and with it whatever decodes."""
        self._stop.set()
        self._thread.join()

    def _bring(self, batches: Iterator[HostBatch], sharding: NamedSharding) -> None:
        try:
            for batch in batches:
                if not self._put(place(batch, sharding)):
                    break
            else:
                self._put(None)
        except BaseException as error:  # told to whoever waits for the batch
            self._put(error)
        finally:
            batches.close()

    def _put(self, item: Any) -> bool:
        """Returns false if nobody wants the item any more."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


class StreamFeeder:
    """Hands out the batch of each step, one step after the other from `start` on."""

    def __init__(
        self,
        split: Split,
        *,
        seed: int,
        batch_size: int,
        start: int,
        stop: int,
        crop: float = 0.0,
        workers: int,
        sharding: NamedSharding,
    ):
        one, labels = ((), np.int32), split.labels
        parts = {"image": (split.images.shape[1:], np.uint8), "index": one, "epoch": one}
        parts["label"] = (labels.shape[1:], labels.dtype)
        self._example = {
            name: jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=sharding)
            for name, (shape, dtype) in parts.items()
        }
        numbers = {"seed": seed, "batch_size": batch_size, "start": start, "stop": stop}
        batches = train_batches(split, crop=crop, workers=workers, **numbers)
        self._next = start
        self._prefetch = Prefetch(batches, sharding)
        self._batches = iter(self._prefetch)

    def example(self) -> PyTree:
        """Returns the shapes, types and placement of a batch."""
        return self._example

    def hold_back(self, running: list[PyTree]) -> None:
        """Waits, as far as it costs no time, for the results of the steps that are `running`.

        At most one is left to run, or batches would pile up on the device. Without a batch at hand
        none is, so that what `__call__` then takes is the time in which nothing is computed.
        """
        jax.block_until_ready(running[-2:-1])
        if self._prefetch.empty:
            jax.block_until_ready(running[-1:])

    def __call__(self, step: int) -> dict[str, jax.Array]:
        """Returns the batch of step `step`."""
        if step != self._next:
            raise AssertionError(f"the stream is at step {self._next}, not {step}")
        self._next += 1
        return next(self._batches)

    def close(self) -> None:
        """Ends the reading."""
        self._prefetch.close()


class StreamedEvalBatches:
    """A split in its own order, as batches, read anew each time."""

    def __init__(self, split: Split, *, batch_size: int, sharding: NamedSharding):
        self._split, self._batch_size, self._sharding = split, batch_size, sharding

    def __len__(self) -> int:
        return -(-len(self._split) // self._batch_size)

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        prefetch = Prefetch(eval_batches(self._split, batch_size=self._batch_size), self._sharding)
        try:
            yield from prefetch
        finally:
            prefetch.close()


@contextlib.contextmanager
def _deaf_to_stop_signals() -> Iterator[None]:
    """Has processes that are started within live on when a signal asks the run to stop.

    It goes to all processes of a terminal or job; the run itself heeds it, and still needs batches
    until it is saved. What a thread blocks, its threads and processes inherit: they are deaf from
    their very start.
    """
    # The tracker unblocks the signals where it has to be started.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_the_run(*_: int) -> None:
    """Has a worker end when the run's process does, however that ends."""

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _mark_flags_parsed() -> None:
    """Grain's workers read absl flags, which are unparsed where no absl command runs."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
