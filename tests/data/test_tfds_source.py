"""TFDS datasets: exact arrays from the right place, and one line for what is wrong on disk."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cnn_jax.config import Data
from cnn_jax.data.datasets import dataset_spec
from cnn_jax.data.sources import tfds_source
from cnn_jax.data.sources.tfds_builder import resolve_data_dir
from tests.data.checks import load, refused
from tests.data.fakes import png, prepare_fake, write_dataset


@pytest.fixture
def copy(prepared, tmp_path):
    """A prepared cifar10 that a test may damage; the directory of its version."""
    shutil.copytree(prepared / "cifar10", tmp_path / "data" / "cifar10")
    return tmp_path / "data" / "cifar10" / "3.0.2"


def _features(image=None, classes=3):
    image = image or tfds.features.Image(shape=(2, 2, 1))
    return tfds.features.FeaturesDict(
        {"image": image, "label": tfds.features.ClassLabel(num_classes=classes)}
    )


def _examples(count, labels=(0, 1, 2)):
    """Examples whose every pixel is their index."""
    return [
        {"image": png(np.full((2, 2, 1), i, np.uint8)), "label": labels[i % len(labels)]}
        for i in range(count)
    ]


# Arrays.


def test_load_gives_what_tfds_gives(prepared):
    data = load("cifar10", prepared, validation_fraction=0.0)
    assert data.spec == dataset_spec(Data(name="cifar10", dir=str(prepared)))
    builder = tfds.builder("cifar10", data_dir=prepared)
    for split, name in (data.train, "train"), (data.test, "test"):
        source = builder.as_data_source(name)
        assert len(split) == len(source)
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
        for index, example in enumerate(source):
            np.testing.assert_array_equal(split.images[index], example["image"])
            assert split.labels[index] == example["label"]


def test_images_keep_their_labels_over_many_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_source, "_CHUNK", 7)
    splits = {"train": _examples(30), "test": _examples(5)}
    write_dataset("toy", tmp_path, features=_features(), splits=splits)
    data = load("toy", tmp_path, validation_fraction=0.0)
    assert sorted(data.train.images[:, 0, 0, 0].tolist()) == list(range(30))
    np.testing.assert_array_equal(data.train.images[:, 1, 1, 0] % 3, data.train.labels)


def test_cifar100_takes_the_fine_label(tmp_path):
    prepare_fake("cifar100", tmp_path, train=120, test=100)
    data = load("cifar100", tmp_path)
    assert data.spec.num_classes == 100 and sorted(data.test.labels.tolist()) == list(range(100))


def test_a_config_and_a_version_by_name(tmp_path):
    prepare_fake("emnist/letters", tmp_path)
    assert len(load("emnist/letters:3.1.0", tmp_path).test) == 20


def test_class_names_of_the_prepared_copy(copy):
    (copy / "label.labels.txt").write_text("\n".join("abcdefghij") + "\n")
    assert load("cifar10", copy.parents[1]).spec.class_names == tuple("abcdefghij")


def test_without_a_test_split_validation_is_the_test(tmp_path):
    prepare_fake("mnist", tmp_path, test=0, validation=10)
    data = load("mnist", tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 10)


def test_the_fakes_can_be_learned(prepared):
    data = load("cifar10", prepared)
    train, test = (s.images.reshape(len(s), -1).astype(float) for s in (data.train, data.test))
    nearest = ((test[:, None] - train) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(data.train.labels[nearest], data.test.labels)


# Directories.


def test_data_dir_then_variable_then_home(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_data_dir() == tmp_path / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert resolve_data_dir("") == prepared
    assert resolve_data_dir("~/x") == tmp_path / "x"
    assert len(load("cifar10").train) == 36
    assert str(tmp_path / "x") in refused("cifar10", tmp_path / "x")


def test_a_relative_directory_stays_where_it_was(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(prepared.parent)
    monkeypatch.setenv("TFDS_DATA_DIR", prepared.name)
    builder = tfds_source.open_prepared("cifar10", resolve_data_dir())
    monkeypatch.chdir(tmp_path)
    assert len(builder.as_data_source("test")) == 20


def test_a_url_is_refused():
    assert "local directory" in refused("cifar10", "gs://bucket/data")


# What is wrong with the data on disk, in one line.


def test_not_prepared_says_where_it_looked_and_what_to_run(tmp_path, monkeypatch):
    message = refused("cifar10", tmp_path / "my data")
    assert str(tmp_path / "my data" / "cifar10" / "3.0.2") in message
    assert message.endswith(f" --dataset=cifar10 --data_dir='{tmp_path}/my data'")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert refused("cifar10").endswith("; run: python -m experiments.prepare --dataset=cifar10")


def test_another_version_is_pointed_at(copy):
    copy.rename(copy.with_name("3.0.1"))
    assert "there is cifar10:3.0.1" in refused("cifar10", copy.parents[1])


def test_no_info_is_half_prepared(copy):
    (copy / "dataset_info.json").unlink()
    assert "half prepared" in refused("cifar10", copy.parents[1])


def test_an_interrupted_preparation_is_half_prepared(copy):
    copy.rename(copy.with_name("incomplete.AB12CD_3.0.2"))
    assert "half prepared" in refused("cifar10", copy.parents[1])


def test_a_missing_shard_is_named(copy):
    shard = next(copy.glob("cifar10-test.*"))
    shard.unlink()
    message = refused("cifar10", copy.parents[1])
    assert "the test split of cifar10" in message and shard.name in message


@pytest.mark.parametrize("keep", [0, 1000])
def test_a_truncated_shard_names_the_split(keep, copy):
    shard = next(copy.glob("cifar10-train.*"))
    shard.write_bytes(shard.read_bytes()[:keep])
    assert "the train split of cifar10" in refused("cifar10", copy.parents[1])


def test_a_truncated_info_is_one_line(copy):
    path = copy / "dataset_info.json"
    path.write_text(path.read_text()[:100])
    assert f"can't be opened in {copy.parents[1]}" in refused("cifar10", copy.parents[1])


def _edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_another_format_names_the_conversion(copy):
    _edit(copy / "dataset_info.json", lambda info: info.update(fileFormat="riegeli"))
    message = refused("cifar10", copy.parents[1])
    assert "as riegeli" in message and "--out_file_format=array_record" in message


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"train": 3}, "no test or validation split; it has train"),
        ({"test": 3}, "no train split; it has test"),
    ],
)
def test_missing_splits(splits, words, tmp_path):
    splits = {name: _examples(count) for name, count in splits.items()}
    write_dataset("toy", tmp_path, features=_features(), splits=splits)
    assert words in refused("toy", tmp_path)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (tfds.features.Tensor(shape=(2, 2, 1), dtype=np.uint16), "uint16 .*must be uint8"),
        (tfds.features.Tensor(shape=(2, 2), dtype=np.uint8), "shape 2 x 2; .*channels"),
        (tfds.features.Text(), "not image classification"),
    ],
)
def test_images_of_another_kind(image, words, tmp_path):
    value = (
        "text" if isinstance(image, tfds.features.Text) else np.zeros(image.shape, image.np_dtype)
    )
    examples = [{"image": value, "label": 0}] * 4
    splits = {"train": examples, "test": examples}
    write_dataset("toy", tmp_path, features=_features(image), splits=splits)
    assert re.search(words, refused("toy", tmp_path))


def test_images_of_differing_sizes(tmp_path):
    prepare_fake("imagenet2012", tmp_path, train=4, test=0, validation=4, size=8)
    assert "differing sizes, ? x ? x 3" in refused("imagenet2012", tmp_path)


def test_images_that_are_not_as_described(tmp_path):
    image = tfds.features.Image(shape=(None, None, 1))
    splits = {"train": _examples(4), "test": _examples(4)}
    home = write_dataset("toy", tmp_path, features=_features(image), splits=splits)
    _edit(home / "features.json", lambda info: _image_of(info).update(shape=_dimensions(1, 2, 1)))
    message = refused("toy", tmp_path)
    assert "the train split of toy" in message and "2 x 2 x 1; its description" in message


def _image_of(features):
    return features["featuresDict"]["features"]["image"]["image"]


def _dimensions(*sizes):
    return {"dimensions": [str(size) for size in sizes]}


@pytest.mark.parametrize(("labels", "words"), [([0, -1], "from -1 to 0"), ([0, 2], "from 0 to 2")])
def test_labels_out_of_range(labels, words, tmp_path):
    splits = {"train": _examples(4, [0, 1]), "test": _examples(4, labels)}
    home = write_dataset("toy", tmp_path, features=_features(), splits=splits)
    features = home / "features.json"
    features.write_text(features.read_text().replace('"numClasses": "3"', '"numClasses": "2"'))
    message = refused("toy", tmp_path, validation_fraction=0.0)
    assert "the test split of toy" in message and words in message
