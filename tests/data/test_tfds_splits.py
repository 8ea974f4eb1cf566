"""Split expressions, sizes and TFRecord copies of TFDS datasets."""

import json
import re
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.data.checks import load, refused, same
from tests.data.fakes import prepare_fake


def _load(place, **fields):
    return load("cifar10", place, **{"validation_fraction": 0.0} | fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"train_split": "train[:75%]"}, (["train[:30]"], [], ["test"])),
        (
            {"train_split": "train[:30]", "validation_split": "train[30:]"},
            (["train[:30]"], ["train[30:]"], ["test"]),
        ),
        ({"train_split": "train+test[:5]", "test_split": "test[5:]"}, None),
        ({"train_split": "test", "test_split": "train[-10:]"}, (["test"], [], ["train[30:]"])),
    ],
)
def test_expressions_give_what_tfds_gives(fields, expected, prepared):
    data = _load(prepared, **fields)
    expected = expected or (["train", "test[:5]"], [], ["test[5:]"])
    builder = tfds.builder("cifar10", data_dir=prepared)
    for split, names in zip((data.train, data.validation, data.test), expected, strict=True):
        examples = [example for name in names for example in builder.as_data_source(name)]
        assert (len(split) if split else 0) == len(examples)
        for index, example in enumerate(examples):
            np.testing.assert_array_equal(split.images[index], example["image"])
            assert split.labels[index] == example["label"]
    again = _load(prepared, **fields)
    assert same(again.train, data.train) and same(again.test, data.test)


def test_validation_is_carved_from_an_expression(prepared):
    data = _load(prepared, train_split="train[:20]", validation_fraction=0.25)
    assert (len(data.train), len(data.validation)) == (15, 5)
    data = _load(prepared, validation_split="test[:5]", test_split="test[5:]")
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 5, 15)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train_split", "trian[:90%]"),
        ("train_split", "train[:90"),
        ("validation_split", "train[200%:]"),
        ("test_split", "validation"),
        ("test_split", "test;"),
    ],
)
def test_wrong_expressions_are_named(field, value, prepared):
    message = refused("cifar10", prepared, **{field: value})
    assert f"data.{field} is '{value}'" in message and "train, test" in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"validation_split": "train[90%:]"}, "4 examples .* both in train and in validation"),
        ({"test_split": "train[:10]"}, "10 examples .* both in "),
        ({"train_split": "train+train"}, "40 examples .* twice in train"),
        ({"train_split": "train[:20]+train[15:]"}, "5 examples .* twice in train"),
        ({"validation_split": "test"}, "20 examples .* both in "),
        ({"train_split": "all"}, "20 examples .* both in "),
    ],
)
def test_examples_used_twice_are_refused(fields, words, prepared):
    assert re.search(words, refused("cifar10", prepared, **fields))


def test_an_expression_without_examples(prepared):
    assert "the train[5:5] split of cifar10 holds no examples" in refused(
        "cifar10", prepared, train_split="train[5:5]"
    )


def test_images_of_differing_sizes_are_brought_to_one(tmp_path):
    prepare_fake("imagenet2012", tmp_path, train=4, test=0, validation=4, size=9)
    data = load("imagenet2012", tmp_path, image_size=4, validation_fraction=0.0)
    assert data.train.images.shape == (4, 4, 4, 3) and data.spec.image_shape == (4, 4, 3)
    data = load("imagenet2012", tmp_path, image_size=5, validation_fraction=0.5)
    assert data.test.images.shape == (4, 5, 5, 3)  # not those of the cache


@pytest.fixture
def tfrecord(prepared, tmp_path):
    """The prepared cifar10 in TFRecord files, several shards; the directory of its version."""
    source = prepared / "cifar10" / "3.0.2"
    home = tmp_path / "records" / "cifar10" / "3.0.2"
    home.mkdir(parents=True)
    info = json.loads((source / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    builder = tfds.builder("cifar10", data_dir=prepared)
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    for split in info["splits"]:
        name = split["name"]
        records = list(builder.as_data_source(name, deserialize_method=raw))
        half = len(records) // 2
        split["shardLengths"] = [str(half), str(len(records) - half)]
        for shard, part in enumerate((records[:half], records[half:])):
            framed = [struct.pack("<QI", len(r), 0) + r + bytes(4) for r in part]
            path = home / f"cifar10-{name}.tfrecord-{shard:05}-of-00002"
            path.write_bytes(b"".join(framed))
    (home / "dataset_info.json").write_text(json.dumps(info))
    for path in source.glob("*.*"):
        if path.name in ("features.json", "label.labels.txt"):
            (home / path.name).write_bytes(path.read_bytes())
    return home


@pytest.mark.parametrize("fields", [{}, {"train_split": "train[15:32]"}])
def test_tfrecord_is_read_like_array_record(fields, tfrecord, prepared):
    found, expected = _load(tfrecord.parents[1], **fields), _load(prepared, **fields)
    assert same(found.train, expected.train) and same(found.test, expected.test)


def test_a_truncated_tfrecord_names_file_and_split(tfrecord):
    path = next(tfrecord.glob("*train*-00001-*"))
    path.write_bytes(path.read_bytes()[:-100])
    message = refused("cifar10", tfrecord.parents[1])
    assert "the train split of cifar10" in message
    assert f"{path} ends within or before record 19" in message
