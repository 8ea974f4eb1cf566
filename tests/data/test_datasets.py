"""Datasets by name: facts without data, validation, and nothing that a user should not see."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnn_jax.config import Data
from cnn_jax.data import datasets
from cnn_jax.data.datasets import dataset_spec, load_dataset
from tests.data.checks import load, refused, same

REAL_DATA_DIR = os.environ.get("TFDS_DATA_DIR", "")


# Facts.


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("mnist", (28, 28, 1), 10),
        ("fashion_mnist:3.0.1", (28, 28, 1), 10),
        ("cifar10", (32, 32, 3), 10),
        ("cifar100", (32, 32, 3), 100),
        ("svhn_cropped", (32, 32, 3), 10),
        ("imagenet2012", (None, None, 3), 1000),
        ("emnist/letters", (28, 28, 1), 37),
    ],
)
def test_spec_of_stock_datasets_without_data(name, shape, classes, tmp_path):
    spec = dataset_spec(Data(name=name, dir=str(tmp_path)))
    assert spec.name == name.partition(":")[0]
    assert spec.image_shape == shape and spec.num_classes == classes
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar1", "cifar1 is not known, .*cifar10"),
        ("dgits", "digits"),
        ("zzzzqq", "zzzzqq is not known"),
        ("CIFAR-10", "no dataset name"),
        ("", "no dataset name"),
        ("huggingface:mnist", "no dataset name"),
        ("cifar10:9.9.9", r"9\.9\.9.*only: 3\.0\.2"),
        ("emnist/lettres", "no config lettres; .*letters"),
        ("imdb_reviews", "not image classification: .* has .*text"),
        ("eurosat/all", "not image classification"),
    ],
)
def test_names_that_cannot_be(name, words, tmp_path):
    for function in dataset_spec, load_dataset:
        assert re.search(words, refused(name, tmp_path, by=function))


@pytest.mark.skipif(not REAL_DATA_DIR, reason="TFDS_DATA_DIR names no prepared datasets")
@pytest.mark.parametrize(
    ("name", "sizes", "test_counts"),
    [
        ("mnist", (54000, 6000), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
        ("cifar10", (45000, 5000), [1000] * 10),
    ],
)
def test_real_data(name, sizes, test_counts):
    data = load(name, REAL_DATA_DIR)
    assert (len(data.train), len(data.validation)) == sizes
    assert np.bincount(data.test.labels).tolist() == test_counts
    again = load(name, REAL_DATA_DIR)  # from the cache
    assert same(data.train, again.train) and same(data.test, again.test)


# Validation.


def test_carving_takes_from_train_and_keeps_the_order(prepared):
    whole = load("cifar10", prepared, validation_fraction=0.0)
    parts = load("cifar10", prepared, validation_fraction=0.25)
    assert (len(parts.train), len(parts.validation)) == (30, 10)
    places = {image.tobytes(): i for i, image in enumerate(whole.train.images)}
    kept, carved = (
        [places[image.tobytes()] for image in split.images]
        for split in (parts.train, parts.validation)
    )
    assert kept == sorted(kept) and carved == sorted(carved)
    assert sorted(kept + carved) == list(range(40))
    np.testing.assert_array_equal(whole.train.labels[carved], parts.validation.labels)
    assert same(whole.test, parts.test)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan"), 0.001, 0.999])
def test_fractions_that_cannot_be(fraction, prepared):
    message = refused("cifar10", prepared, validation_fraction=fraction)
    assert "validation_fraction" in message and str(fraction) in message


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("digits", "channels", 1),
        ("digits", "on_bad_example", "skip"),
        ("synthetic", "train_split", "train"),
        ("npz", "image_size", 8),
        ("image_folder", "test_split", "test"),
    ],
)
def test_fields_of_other_sources_are_refused(name, field, value):
    message = refused(name, **{field: value})
    assert f"data.name={name} has no use for data.{field}; only " in message


def test_a_field_of_another_source_can_be_unset_as_the_refusal_says():
    assert refused("image_folder", test_split="x").endswith("Unset: --config.data.test_split=")
    assert refused("npz", image_size=8, crop_files=True).endswith(
        "; only TFDS datasets, image_folder have. "
        "Unset: --config.data.image_size=0 --config.data.crop_files=False"
    )


def test_a_place_for_made_up_images_is_refused():
    assert (
        "data.name=synthetic has no use for data.dir; only TFDS datasets, image_folder, npz have"
        in refused("synthetic", "mine")
    )


# What a user doesn't get to see, and what isn't imported.


def test_nothing_is_said_and_nothing_heavy_is_imported(prepared, tmp_path):
    script = f"""
import sys, warnings
warnings.simplefilter("error")
from cnn_jax.config import Data
from cnn_jax.data.datasets import load_dataset
assert "tensorflow_datasets" not in sys.modules, "imported too early"
load_dataset(Data(name="cifar10", dir={str(prepared)!r}))
load_dataset(Data(dir={str(tmp_path / "digits")!r}))
unwanted = {{"tensorflow", "torch", "cnn_jax.models"}} & set(sys.modules)
assert not unwanted, unwanted
"""
    root = Path(datasets.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
