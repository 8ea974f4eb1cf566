"""Streaming gives the very batches of resident feeding, in any number of pieces."""

import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from cnn_jax.data.cropping import random_part
from cnn_jax.data.on_disk import ImagesOnDisk, channel_sums
from cnn_jax.data.resident import Feeder, take_batch
from cnn_jax.data.spec import Split
from cnn_jax.data.streaming import (
    AHEAD,
    Prefetch,
    StreamedEvalBatches,
    StreamFeeder,
    eval_batches,
    train_batches,
)
from cnn_jax.errors import InputError
from cnn_jax.placement import replicated, sharded
from cnn_jax.training.parallel import make_mesh

SIZE, BATCH, STEPS = 10, 4, 8
IMAGES = np.arange(SIZE, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
LABELS = np.arange(SIZE, dtype=np.int32) % 3
RESIDENT = Split(IMAGES, LABELS)


def numbered(numbers, parts=None):
    """Reads images whose pixels are their number; of a part, how large it is."""
    if parts is None:
        return IMAGES[numbers]
    boxes = np.array([part((200, 200), (2, 2)) for part in parts])
    return IMAGES[numbers] * 0 + np.uint8(boxes[:, 2] - boxes[:, 0])[:, None, None, None]


def lost(numbers, parts=None):
    raise InputError("cats/1.png is empty")


def on_disk(read=numbered):
    images = ImagesOnDisk(read, np.arange(SIZE), (2, 2, 1), channel_sums(IMAGES))
    return Split(images, LABELS)


def streamed(start=0, stop=STEPS, split=None, **options):
    options = {"seed": 3, "batch_size": BATCH, "start": start, "stop": stop} | options
    return list(train_batches(split or on_disk(), **options))


def sharding(devices=1):
    return sharded(make_mesh(devices))


@pytest.mark.parametrize("split", [RESIDENT, on_disk()], ids=["in memory", "on disk"])
def test_streamed_batches_are_the_resident_ones(split):
    feeder = Feeder(RESIDENT, seed=3, batch_size=BATCH, sharding=sharding())
    for step, batch in enumerate(streamed(split=split)):
        resident = take_batch(feeder(step), jax.numpy.int32(step), batch_size=BATCH)
        assert batch.keys() == resident.keys()
        for name, array in batch.items():
            assert array.dtype == resident[name].dtype
            np.testing.assert_array_equal(array, resident[name], err_msg=name)


def test_every_example_comes_once_an_epoch():
    indices = np.concatenate([batch["index"] for batch in streamed()])
    for epoch in range(3):
        assert sorted(indices[epoch * SIZE : (epoch + 1) * SIZE]) == list(range(SIZE))


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 3}])
def test_a_stream_goes_on_after_any_step(options):
    whole = streamed()
    for start in (1, 5, STEPS - 1):
        for one, other in zip(whole[start:], streamed(start, **options), strict=True):
            np.testing.assert_array_equal(one["index"], other["index"])
    assert streamed(STEPS) == []


def test_crops_are_drawn_by_epoch_and_example_alone():
    whole = streamed(crop=0.08)
    plain = streamed()
    widths = {}
    for batch, other in zip(whole, plain, strict=True):
        np.testing.assert_array_equal(batch["index"], other["index"])
        keys = list(zip(batch["epoch"].tolist(), batch["index"].tolist(), strict=True))
        for key, image in zip(keys, batch["image"], strict=True):
            left, _, right, _ = random_part((200, 200), (2, 2), key=(3, *key), area=0.08)
            widths[key] = np.uint8(right - left)
            assert (image == widths[key]).all()
    assert len(set(widths.values())) > len(widths) / 2
    for start in (1, 5):
        for one, other in zip(whole[start:], streamed(start, crop=0.08, threads=3), strict=True):
            np.testing.assert_array_equal(one["image"], other["image"])


@contextlib.contextmanager
def gc_off():
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def ask_to_stop(pid):
    for each in signal.SIGINT, signal.SIGTERM:
        os.kill(pid, each)


def test_worker_processes_change_nothing_and_are_not_stopped_by_signals(monkeypatch):
    spawn = multiprocessing.util.spawnv_passfds

    def ask_at_once(*args):
        pid = spawn(*args)
        ask_to_stop(pid)
        return pid

    monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", ask_at_once)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    options = {"seed": 3, "batch_size": BATCH, "start": 1, "stop": STEPS, "crop": 0.3}
    batches = train_batches(on_disk(), workers=2, **options)
    found = [next(batches)]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        ask_to_stop(worker.pid)
    with gc_off():
        found += batches
        left = [each for each in gc.get_objects() if type(each).__name__ == "SharedMemoryArray"]
    assert not left  # in a cycle, to be told of as leaked when Python ends
    for one, other in zip(streamed(1, crop=0.3), found, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])


KILLED = """
import os, signal
from tests.data.test_streaming import on_disk, train_batches

batches = train_batches(on_disk(), seed=3, batch_size=2, start=0, stop=8, workers=1)
next(batches)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_process_that_is_killed():
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    run = [sys.executable, "-c", KILLED]
    # Their output is a pipe, which ends with the last that could write into it.
    done = subprocess.run(run, cwd=root, stdout=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_reading_reaches_the_step_that_needs_the_batch(workers):
    feeder = StreamFeeder(
        on_disk(lost),
        seed=3,
        batch_size=BATCH,
        start=0,
        stop=STEPS,
        workers=workers,
        sharding=sharding(),
    )
    with contextlib.closing(feeder), pytest.raises(InputError, match=r"cats/1.png is empty"):
        feeder(0)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 16])
def test_evaluation_counts_every_example_once(batch_size):
    batches = list(eval_batches(on_disk(), batch_size=batch_size))
    assert {len(batch["label"]) for batch in batches} == {batch_size}
    seen = np.concatenate([batch["image"][batch["mask"], 0, 0, 0] for batch in batches])
    np.testing.assert_array_equal(seen, np.arange(SIZE))


def test_evaluation_can_be_gone_through_twice_over_eight_devices():
    batches = StreamedEvalBatches(on_disk(), batch_size=8, sharding=sharding(8))
    assert len(batches) == 2
    for _ in range(2):
        labels = [np.asarray(batch["label"])[np.asarray(batch["mask"])] for batch in batches]
        np.testing.assert_array_equal(np.concatenate(labels), LABELS)


def test_a_feeder_gives_batches_as_it_said_spread_over_devices():
    options = {"seed": 3, "batch_size": 8, "workers": 0, "sharding": sharding(8)}
    feeder = StreamFeeder(on_disk(), start=2, stop=4, **options)
    with contextlib.closing(feeder):
        for step in (2, 3):
            feeder.hold_back([])
            batch = feeder(step)
            for name, expected in feeder.example().items():
                got = batch[name]
                assert (got.shape, got.dtype, got.sharding) == (
                    expected.shape,
                    expected.dtype,
                    expected.sharding,
                )
            (expected,) = streamed(step, step + 1, batch_size=8)
            np.testing.assert_array_equal(batch["index"], expected["index"])


def test_a_feeder_refuses_a_step_out_of_turn():
    options = {"seed": 3, "batch_size": BATCH, "workers": 0, "sharding": sharding()}
    feeder = StreamFeeder(on_disk(), start=0, stop=4, **options)
    with contextlib.closing(feeder), pytest.raises(AssertionError, match="at step 0, not 2"):
        feeder(2)


def test_no_more_batches_are_brought_than_are_asked_for():
    taken = []

    def batches():
        try:
            for number in range(100):
                taken.append(number)
                yield {"x": np.float32(number)}
        finally:
            taken.append("closed")

    prefetch = Prefetch(batches(), replicated(make_mesh(1)))
    assert [float(next(iter(prefetch))["x"]) for _ in range(3)] == [0, 1, 2]
    while prefetch._queue.qsize() < AHEAD:
        time.sleep(0)
    prefetch.close()
    assert taken[-1] == "closed"
    assert len(taken) <= 3 + AHEAD + 2
