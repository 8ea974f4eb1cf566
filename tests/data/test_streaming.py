"""Streaming gives the very batches of resident feeding, in any number of pieces."""

import jax
import numpy as np
import pytest

from cnn_jax.data.datasets import Split
from cnn_jax.data.resident import Feeder, take_batch
from cnn_jax.data.streaming import eval_batches, to_device, train_batches

SIZE, BATCH, STEPS = 10, 4, 8


class Numbered:
    """Examples whose pixels are their index."""

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        image = np.full((2, 2, 1), index, np.uint8)
        return {"image": image, "label": np.int32(index % 3)}


def streamed(start=0, stop=STEPS, **options):
    batches = train_batches(Numbered(), seed=3, batch_size=BATCH, start=start, stop=stop, **options)
    return list(batches)


def test_streamed_batches_are_the_resident_ones():
    images = np.arange(SIZE, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    split = Split(images, np.arange(SIZE, dtype=np.int32) % 3)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    feeder = Feeder(split, seed=3, batch_size=BATCH, sharding=sharding)
    for step, batch in enumerate(streamed()):
        resident = take_batch(feeder(step), jax.numpy.int32(step), batch_size=BATCH)
        np.testing.assert_array_equal(batch["image"], resident["image"])
        np.testing.assert_array_equal(batch["label"], resident["label"])


def test_every_example_comes_once_an_epoch():
    indices = np.concatenate([batch["index"] for batch in streamed()])
    for epoch in range(3):
        assert sorted(indices[epoch * SIZE : (epoch + 1) * SIZE]) == list(range(SIZE))
    epochs = np.concatenate([batch["epoch"] for batch in streamed()])
    np.testing.assert_array_equal(epochs, np.arange(STEPS * BATCH) // SIZE)


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 3}])
def test_a_stream_goes_on_after_any_step(options):
    whole = streamed()
    for start in (1, 5, STEPS - 1):
        for one, other in zip(whole[start:], streamed(start, **options), strict=True):
            np.testing.assert_array_equal(one["index"], other["index"])


def test_worker_processes_change_nothing():
    for one, other in zip(streamed(stop=4), streamed(stop=4, workers=2), strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])


@pytest.mark.parametrize("batch_size", [1, 3, 10, 16])
def test_evaluation_counts_every_example_once(batch_size):
    batches = list(eval_batches(Numbered(), batch_size=batch_size))
    assert {len(batch["label"]) for batch in batches} == {batch_size}
    seen = np.concatenate([batch["image"][batch["mask"], 0, 0, 0] for batch in batches])
    np.testing.assert_array_equal(seen, np.arange(SIZE))


def test_batches_arrive_on_the_device_in_order():
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[1])
    arrived = list(to_device(streamed(), sharding, ahead=3))
    assert all(batch["image"].sharding == sharding for batch in arrived)
    for one, other in zip(streamed(), arrived, strict=True):
        np.testing.assert_array_equal(one["index"], other["index"])
