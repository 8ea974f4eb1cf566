"""Batches of a split on the device: exactly once an epoch, by (seed, step) alone."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cnn_jax.data.resident import EvalBatches, Feeder, epoch_order, take_batch
from cnn_jax.data.spec import Split
from cnn_jax.training.parallel import make_mesh

SIZES = [(12, 4), (12, 5), (7, 3), (7, 7), (5, 1)]  # examples, batch


def _split(size):
    """A split whose example i has the label i and pixels of value i."""
    labels = np.arange(size, dtype=np.int32)
    images = np.broadcast_to(labels[:, None, None, None], (size, 2, 3, 1)).astype(np.uint8)
    return Split(images, labels)


def _sharding(devices=1, spec="data"):
    return NamedSharding(make_mesh(devices), PartitionSpec(spec))


def _batches(size, batch_size, steps, seed=0):
    """Returns the labels of each step's batch, having checked that the images belong to them."""
    feeder = Feeder(_split(size), seed=seed, batch_size=batch_size, sharding=_sharding())
    take = jax.jit(take_batch, static_argnames="batch_size")
    labels = []
    for step in steps:
        batch = take(feeder(step), np.int32(step), batch_size=batch_size)
        assert batch["image"].dtype == np.uint8
        assert batch["image"].shape == (batch_size, 2, 3, 1)
        np.testing.assert_array_equal(batch["image"][:, 1, 2, 0], batch["label"])
        labels.append(np.asarray(batch["label"]))
    return labels


@pytest.mark.parametrize(("size", "batch_size"), SIZES)
def test_every_example_comes_exactly_once_an_epoch(size, batch_size):
    epochs = 4
    stream = np.concatenate(_batches(size, batch_size, range(-(-epochs * size // batch_size))))
    for epoch in range(epochs):
        seen = stream[epoch * size : (epoch + 1) * size]
        np.testing.assert_array_equal(np.sort(seen), np.arange(size))
        np.testing.assert_array_equal(seen, epoch_order(0, epoch, size))


@pytest.mark.parametrize(("size", "batch_size"), SIZES)
def test_a_batch_depends_on_seed_and_step_alone(size, batch_size):
    steps = list(range(9))
    straight = _batches(size, batch_size, steps)
    backward = _batches(size, batch_size, steps[::-1])[::-1]
    np.testing.assert_array_equal(straight, backward)
    np.testing.assert_array_equal(straight[6:], _batches(size, batch_size, steps[6:]))


def test_the_order_differs_by_epoch_and_by_seed():
    orders = [epoch_order(seed, epoch, 50) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert all(order.dtype == np.int32 for order in orders)


def test_the_order_takes_every_seed_that_a_config_may_have():
    highest = epoch_order(2**32 - 1, 10**6, 5)
    assert sorted(highest.tolist()) == [0, 1, 2, 3, 4]


def test_a_feed_stays_on_the_device_within_an_epoch():
    feeder = Feeder(_split(12), seed=0, batch_size=4, sharding=_sharding())
    first = feeder(0)
    assert feeder(2) is first
    later = feeder(3)
    assert later.images is first.images
    assert int(later.start) == 12


@pytest.mark.parametrize(("size", "batch_size"), [(12, 8), (37, 16), (8, 8)])
def test_eight_devices_hold_a_share_each_and_give_the_batches_of_one(size, batch_size):
    take = jax.jit(take_batch, static_argnames="batch_size")
    one, eight = (
        Feeder(_split(size), seed=3, batch_size=batch_size, sharding=_sharding(devices))
        for devices in (1, 8)
    )
    shapes = {shard.data.shape for shard in eight(0).images.addressable_shards}
    assert shapes == {(-(-size // 8), 2, 3, 1)}
    for step in range(6):
        batches = (take(f(step), np.int32(step), batch_size=batch_size) for f in (one, eight))
        jax.tree.map(np.testing.assert_array_equal, *batches)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize(("size", "batch_size"), [*SIZES, (3, 8), (1, 4)])
def test_evaluation_counts_every_example_once(size, batch_size, devices):
    place = _sharding(devices, None if batch_size % devices else "data")
    batches = EvalBatches(_split(size), batch_size=batch_size, sharding=place)
    listed = list(batches)
    assert len(batches) == len(listed) == -(-size // batch_size)
    assert {batch["label"].shape for batch in listed} == {(batch_size,)}
    assert {batch["image"].sharding for batch in listed} == {place}
    labels, masks, images = (
        np.concatenate([batch[name] for batch in listed]) for name in ("label", "mask", "image")
    )
    np.testing.assert_array_equal(labels[masks], np.arange(size))
    np.testing.assert_array_equal(images[masks, 0, 0, 0], np.arange(size))


def test_evaluation_can_be_gone_through_twice():
    batches = EvalBatches(_split(5), batch_size=2, sharding=_sharding())
    first, second = ([np.asarray(batch["label"]) for batch in batches] for _ in range(2))
    np.testing.assert_array_equal(first, second)
