"""A whole split held on the device as uint8; batches are gathered inside the compiled step.

The order is that of `cnn_jax.data.order`; the host does no work but once an epoch. On several
devices each holds a share of the split, and the compiler gathers a batch from all of them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree, UInt8

from cnn_jax.data.order import epoch_order
from cnn_jax.data.spec import Split
from cnn_jax.placement import place, replicated, shards


class Feed(NamedTuple):
    """What a training step draws its batch from; all of it lies on the device.

    `order` covers two epochs, from the example at position `start` of the stream on, so that a
    batch which begins in the first may end in the second. Images and labels may be followed by
    padding, which it never names.
    """

    images: UInt8[Array, "padded h w c"]
    labels: Int[Array, " padded"] | UInt8[Array, "padded classes"]
    order: Int[Array, " two_n"]
    start: Int[Array, ""]


def take_batch(feed: Feed, step: Int[Array, ""], *, batch_size: int) -> dict[str, jax.Array]:
    """Returns the batch of step `step`: `image` uint8 (B, H, W, C) and `label`, int32 (B,) or
    uint8 (B, classes).

    And, int32 (B,) too, `index`, the example's number in its split, and `epoch`, of which it is.
    """
    size = len(feed.order) // 2
    first = step * batch_size - feed.start
    indices = jax.lax.dynamic_slice(feed.order, (first,), (batch_size,))
    epoch = (feed.start + first + jnp.arange(batch_size, dtype=jnp.int32)) // size
    images, labels = feed.images[indices], feed.labels[indices]
    return {"image": images, "label": labels, "index": indices, "epoch": epoch}


class Feeder:
    """Keeps a split on the device and hands out the feed for each step; work once an epoch."""

    def __init__(self, split: Split, *, seed: int, batch_size: int, sharding: NamedSharding):
        self._seed, self._batch_size, self._size = seed, batch_size, len(split)
        self._everywhere = replicated(sharding.mesh)
        self._images = place(_padded(split.images, shards(sharding)), sharding)
        self._labels = place(_padded(split.labels, shards(sharding)), sharding)
        self._epoch, self._feed = -1, None

    def example(self) -> PyTree:
        """Returns a feed such as all are."""
        return self(0)

    def hold_back(self, running: list[PyTree]) -> None:
        """Nothing has to be waited for."""

    def close(self) -> None:
        """There is nothing to end."""

    def __call__(self, step: int) -> Feed:
        """Returns the feed that holds the batch of step `step`."""
        size = self._size
        epoch = step * self._batch_size // size
        if epoch != self._epoch:
            order = np.concatenate([self._order(epoch + i, size) for i in (0, 1)], axis=-1)
            order, start = place((order, np.int32(epoch * size)), self._everywhere)
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
        sharding: NamedSharding,
    ):
        super().__init__(split, seed=seeds[0], batch_size=batch_size, sharding=sharding)
        self._seeds = seeds

    def _order(self, epoch: int, size: int) -> np.ndarray:
        orders = {seed: epoch_order(seed, epoch, size) for seed in set(self._seeds)}
        return np.stack([orders[seed] for seed in self._seeds])


class EvalBatches:
    """A split on the device in its own order, as batches; the last one is padded and masked.

    Where `sharding` splits a batch over devices, each holds its share of every batch.
    """

    def __init__(self, split: Split, *, batch_size: int, sharding: NamedSharding):
        mask = np.ones(len(split), bool)
        arrays = {"image": split.images, "label": split.labels, "mask": mask}
        blocks = {
            name: padded.reshape(-1, batch_size, *padded.shape[1:])
            for name, array in arrays.items()
            for padded in [_padded(array, batch_size)]
        }
        self._count = len(blocks["mask"])
        across = NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec))
        self._blocks = place(blocks, across)
        self._take = jax.jit(_take_block, out_shardings=sharding)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        return (self._take(self._blocks, np.int32(index)) for index in range(self._count))


def _take_block(blocks: dict[str, jax.Array], index: jax.Array) -> dict[str, jax.Array]:
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), blocks)


def _padded(array: np.ndarray, multiple: int) -> np.ndarray:
    """Returns the array with zeros added until its length is a multiple of `multiple`."""
    missing = -len(array) % multiple
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array
