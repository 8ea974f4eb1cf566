"""Held on the device or streamed, in one piece or in several: the same run, bit for bit."""

import dataclasses

import jax
import numpy as np
import pytest

from cnn_jax.config import Augment, Data
from cnn_jax.metric_rows import read_rows
from cnn_jax.training import device_steps
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.run_directory import read_json
from tests.data.fakes import prepare_fake
from tests.training.interrupted import interrupted
from tests.training.tiny import saved_state, tiny_config

pytestmark = pytest.mark.usefixtures("optax_promotes")


@pytest.fixture(scope="module")
def make_config(tmp_path_factory):
    """Makes configs of a run whose batches run from one epoch into the next."""
    data_dir = tmp_path_factory.mktemp("tfds")
    prepare_fake("cifar10", data_dir, train=40, test=20)

    def make(feed, workers=0, **train):
        config = tiny_config(**{"steps": 6, "eval_every": 3, "checkpoint_every": 2, **train})
        config.data = Data(
            name="cifar10",
            dir=str(data_dir),
            batch_size=16,
            eval_batch_size=8,
            feed=feed,
            workers=workers,
            augment=Augment(alternating_flip=True, crop_padding=2),
        )
        return config

    return make


@pytest.fixture(scope="module")
def resident(make_config, tmp_path_factory, optax_promotes):
    workdir = tmp_path_factory.mktemp("resident")
    train_and_evaluate(make_config("auto"), workdir)
    return workdir


def _same_run(workdir, other, config):
    """Checks everything that doesn't depend on the clock."""
    rows, other_rows = (
        [{k: v for k, v in row.items() if k != "images_per_second"} for row in read_rows(path)]
        for path in (workdir / "metrics.jsonl", other / "metrics.jsonl")
    )
    assert rows == other_rows
    states = [saved_state(directory, config)[1] for directory in (workdir, other)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    results = [read_json(directory / "result.json") for directory in (workdir, other)]
    for name in ("test_accuracy", "test_loss", "test_examples", "best_validation"):
        assert results[0][name] == results[1][name], name
    constants = [dict(np.load(d / "normalization.npz")) for d in (workdir, other)]
    jax.tree.map(np.testing.assert_array_equal, *constants)


def test_what_fits_is_held_on_the_device_and_said_so(resident):
    result = read_json(resident / "result.json")
    assert result["feed"] == "resident"
    assert 0 <= result["input_wait_fraction"] < 1


def test_a_streamed_run_is_the_resident_one(resident, make_config, tmp_path, capsys):
    config = make_config("streaming")
    result = train_and_evaluate(config, tmp_path)
    assert "data: 0.2 MiB of images, streamed to the device" in capsys.readouterr().err
    _same_run(tmp_path, resident, config)
    assert result["feed"] == "streaming"
    assert result["input_wait_seconds"] == result["seconds"]["input"] > 0
    expected = result["input_wait_seconds"] / result["train_seconds"]
    assert result["input_wait_fraction"] == expected


def test_and_so_it_is_when_killed_and_taken_up_by_worker_processes(resident, make_config, tmp_path):
    with interrupted(3):
        train_and_evaluate(make_config("streaming"), tmp_path)
    config = make_config("streaming", workers=2)
    assert train_and_evaluate(config, tmp_path)["resumed_from_step"] == 2
    _same_run(tmp_path, resident, config)


def test_a_run_of_cropped_files_goes_on_as_if_never_stopped(
    make_config, tmp_path, monkeypatch, capsys
):
    changes, make = [], device_steps.make_augment_fn
    monkeypatch.setattr(
        device_steps, "make_augment_fn", lambda a, n: changes.append(a) or make(a, n)
    )

    def config(**fields):
        made = make_config("auto")
        augment = Augment(alternating_flip=True, resized_crop=0.2)
        made.data = dataclasses.replace(
            made.data, image_size=12, center_crop=0.9, augment=augment, **fields
        )
        return made

    assert train_and_evaluate(config(crop_files=True), tmp_path / "a")["feed"] == "streaming"
    with interrupted(3):
        train_and_evaluate(config(crop_files=True), tmp_path / "b")
    assert "streamed to the device, random crops cut from the files" in capsys.readouterr().err
    assert {each.resized_crop for each in changes} == {0.0}  # not on the device once more
    train_and_evaluate(config(crop_files=True, workers=2), tmp_path / "b")
    _same_run(tmp_path / "b", tmp_path / "a", config(crop_files=True))


def test_eight_devices_are_streamed_to(resident, make_config, tmp_path):
    config = make_config("streaming")
    config.devices = 8
    result = train_and_evaluate(config, tmp_path)
    straight = read_json(resident / "result.json")
    assert (result["devices"], result["test_examples"]) == (8, 20)
    np.testing.assert_allclose(result["test_loss"], straight["test_loss"], rtol=1e-4)


@pytest.mark.parametrize(("memory", "feed"), [(10**6, "resident"), (10**5, "streaming")])
def test_the_feed_goes_by_the_memory_of_the_devices(memory, feed, make_config, monkeypatch):
    from cnn_jax.training import setup

    monkeypatch.setattr(setup, "device_memory", lambda mesh: [memory])
    assert setup.build_experiment(make_config("auto")).dataset.feed == feed
