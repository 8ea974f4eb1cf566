"""The digits: those of scikit-learn, split in balance, prepared once and whole or not at all."""

import os
import signal

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from cnn_jax.config import Data
from cnn_jax.data.datasets import dataset_spec
from cnn_jax.data.sources import digits
from cnn_jax.errors import InputError
from tests.data.checks import load


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("tfds")
    digits.prepare(data_dir)
    return data_dir


@pytest.fixture(scope="module")
def original():
    data = load_digits()
    return np.rint(data.images * 255 / 16).astype(np.uint8)[..., None], data.target


def _sorted_rows(images, labels):
    rows = np.concatenate([images.reshape(len(images), -1), labels[:, None]], axis=1)
    return rows[np.lexsort(rows.T)]


def test_load_gives_the_digits_of_scikit_learn(prepared, original):
    data = load("digits", prepared, validation_fraction=0.0)
    assert (len(data.train), len(data.test), data.validation) == (1500, 297, None)
    assert data.train.images.dtype == np.uint8 and data.train.labels.dtype == np.int32
    assert data.train.images.max() == 255
    images = np.concatenate([data.train.images, data.test.images])
    labels = np.concatenate([data.train.labels, data.test.labels])
    np.testing.assert_array_equal(_sorted_rows(images, labels), _sorted_rows(*original))


def test_spec_needs_no_data(tmp_path):
    spec = dataset_spec(Data(dir=str(tmp_path)))
    assert (spec.name, spec.image_shape, spec.num_classes) == ("digits", (8, 8, 1), 10)
    assert spec.class_names == tuple("0123456789")
    assert not list(tmp_path.iterdir())


def test_split_is_balanced_and_always_the_same(original):
    labels = original[1]
    is_test = digits.choose_test(labels, count=digits.NUM_TEST)
    share = np.bincount(labels) * digits.NUM_TEST / len(labels)
    assert np.abs(np.bincount(labels[is_test]) - share).max() < 1
    assert np.flatnonzero(is_test)[:8].tolist() == [3, 21, 25, 34, 37, 40, 44, 46]


@pytest.mark.parametrize("count", [0, 1, 7, 50])
def test_choose_test_marks_each_class_in_proportion(count):
    labels = np.repeat([0, 1, 2], [5, 15, 30])
    chosen = digits.choose_test(labels, count=count)
    share = np.array([5, 15, 30]) * count / 50
    assert chosen.sum() == count
    assert np.abs(np.bincount(labels[chosen], minlength=3) - share).max() < 1


def test_prepared_copy_is_an_ordinary_tfds_dataset(prepared):
    builder = tfds.builder("digits", data_dir=prepared)
    assert builder.is_prepared() and builder.info.full_name == "digits/1.0.0"
    example = builder.as_data_source("test")[0]
    assert example["image"].shape == (8, 8, 1) and example["label"] in range(10)
    assert len(load("digits:1.0.0", prepared).test) == 297


def test_prepares_once(prepared, monkeypatch):
    monkeypatch.setattr(digits.Digits, "download_and_prepare", None)
    assert len(load("digits", prepared).train) == 1350


def test_first_use_prepares_in_silence(tmp_path, capfd):
    load("digits", tmp_path / "not" / "yet")
    assert [p.name for p in (tmp_path / "not" / "yet").iterdir()] == ["digits"]
    assert capfd.readouterr() == ("", "")


def test_where_the_data_directory_cannot_be_written_the_cache_serves(tmp_path):
    (tmp_path / "file").touch()
    assert len(load("digits", tmp_path / "file").test) == 297
    assert digits.is_prepared(tmp_path / "cache" / "tfds")


def test_nowhere_to_write(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"digits can't be written to .*file or .*TFDS_DATA_DIR"):
        load("digits", tmp_path / "file")


def test_an_interrupted_preparation_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(self, images, labels, indices):
        yield 0, {"image": images[0], "label": 0}
        raise KeyboardInterrupt

    monkeypatch.setattr(digits.Digits, "_generate_examples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        digits.prepare(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not digits.is_prepared(tmp_path)


def test_a_preparation_that_is_terminated_cleans_up_first(tmp_path, monkeypatch):
    left = []

    def terminated(self, images, labels, indices):
        yield 0, {"image": images[0], "label": 0}
        os.kill(os.getpid(), signal.SIGTERM)
        yield 1, {"image": images[0], "label": 0}

    monkeypatch.setattr(digits.Digits, "_generate_examples", terminated)
    before = signal.signal(signal.SIGTERM, lambda *_: left.append([*tmp_path.glob(".digits*")]))
    try:
        with pytest.raises(KeyboardInterrupt):
            digits.prepare(tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert left == [[]] and not digits.is_prepared(tmp_path)


def test_of_two_that_prepare_at_once_the_first_wins(tmp_path, monkeypatch):
    original = digits.Digits.download_and_prepare

    def slowly(self):
        original(self)
        monkeypatch.setattr(digits.Digits, "download_and_prepare", original)
        digits.prepare(tmp_path)  # the other process, which is done first

    monkeypatch.setattr(digits.Digits, "download_and_prepare", slowly)
    digits.prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
    assert len(load("digits", tmp_path).test) == 297


def test_a_broken_copy_in_the_data_directory_is_passed_over(tmp_path):
    broken = tmp_path / "data" / "digits" / "1.0.0"
    broken.mkdir(parents=True)
    (broken / "features.json").touch()
    assert len(load("digits", tmp_path / "data").test) == 297
