"""A whole split held on the device as uint8; batches are gathered inside the compiled step.

The order is that of `cnn_jax.data.order`; the host does no work but once an epoch.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

from cnn_jax.data.datasets import Split
from cnn_jax.data.order import epoch_order


class Feed(NamedTuple):
    """What a training step draws its batch from; all of it lies on the device.

    `order` covers two epochs, from the example at position `start` of the stream on, so that a
    batch which begins in the first may end in the second.
    """

    images: UInt8[Array, "n h w c"]
    labels: Int[Array, " n"] | UInt8[Array, "n classes"]
    order: Int[Array, " two_n"]
    start: Int[Array, ""]


def take_batch(feed: Feed, step: Int[Array, ""], *, batch_size: int) -> dict[str, jax.Array]:
    """Returns the batch of step `step`: `image` uint8 (B, H, W, C) and `label`, int32 (B,) or
    uint8 (B, classes).

    And, int32 (B,) too, `index`, the example's number in its split, and `epoch`, of which it is.
    """
    size = len(feed.labels)
    first = step * batch_size - feed.start
    indices = jax.lax.dynamic_slice(feed.order, (first,), (batch_size,))
    epoch = (feed.start + first + jnp.arange(batch_size, dtype=jnp.int32)) // size
    images, labels = feed.images[indices], feed.labels[indices]
    return {"image": images, "label": labels, "index": indices, "epoch": epoch}


class Feeder:
    """Keeps a split on the device and hands out the feed for each step; work once an epoch."""

    def __init__(
        self, split: Split, *, seed: int, batch_size: int, sharding: jax.sharding.Sharding
    ):
        self._seed, self._batch_size, self._sharding = seed, batch_size, sharding
        self._images = jax.device_put(split.images, sharding)
        self._labels = jax.device_put(split.labels, sharding)
        self._epoch, self._feed = -1, None

    def __call__(self, step: int) -> Feed:
        """Returns the feed that holds the batch of step `step`."""
        size = len(self._labels)
        epoch = step * self._batch_size // size
        if epoch != self._epoch:
            order = np.concatenate([self._order(epoch + i, size) for i in (0, 1)], axis=-1)
            order, start = jax.device_put((order, np.int32(epoch * size)), self._sharding)
            self._epoch, self._feed = epoch, Feed(self._images, self._labels, order, start)
        return self._feed

    def _order(self, epoch: int, size: int) -> np.ndarray:
        return epoch_order(self._seed, epoch, size)


class MembersFeeder(Feeder):
    """Feeds the members of a population: `order` holds a row for each, the images are one."""

    def __init__(
        self,
        split: Split,
        *,
        seeds: Sequence[int],
        batch_size: int,
        sharding: jax.sharding.Sharding,
    ):
        super().__init__(split, seed=seeds[0], batch_size=batch_size, sharding=sharding)
        self._seeds = seeds

    def _order(self, epoch: int, size: int) -> np.ndarray:
        orders = {seed: epoch_order(seed, epoch, size) for seed in set(self._seeds)}
        return np.stack([orders[seed] for seed in self._seeds])


class EvalBatches:
    """A split on the device in its own order, as batches; the last one is padded and masked."""

    def __init__(self, split: Split, *, batch_size: int, sharding: jax.sharding.Sharding):
        padding = -len(split) % batch_size
        indices = np.pad(np.arange(len(split)), (0, padding))
        mask = np.arange(len(indices)) < len(split)
        self._arrays = jax.device_put(
            {"image": split.images[indices], "label": split.labels[indices], "mask": mask}, sharding
        )
        self._take = jax.jit(partial(_take_block, batch_size=batch_size))
        self._count = len(indices) // batch_size

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        return (self._take(self._arrays, np.int32(index)) for index in range(self._count))


def _take_block(
    arrays: dict[str, jax.Array], index: jax.Array, *, batch_size: int
) -> dict[str, jax.Array]:
    return {
        name: jax.lax.dynamic_slice_in_dim(array, index * batch_size, batch_size)
        for name, array in arrays.items()
    }
