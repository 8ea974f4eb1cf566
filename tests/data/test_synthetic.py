"""Made-up images: marked as such, the same everywhere, and learnable."""

import numpy as np
import pytest

from cnn_jax.config import Data, Synthetic
from cnn_jax.data.datasets import dataset_spec
from tests.data.checks import load, refused, same


def _load(**fields):
    return load("synthetic", synthetic=Synthetic(**fields), validation_fraction=0.0)


def test_it_is_marked():
    spec = _load().spec
    assert spec.synthetic and spec == dataset_spec(Data(name="synthetic"))
    assert not dataset_spec(Data()).synthetic


@pytest.mark.parametrize(
    ("shape", "classes"), [((8, 8, 1), 2), ((5, 7, 4), 3), ((3, 2, 3), 22_000)]
)
def test_shapes_and_classes(shape, classes):
    data = _load(image_shape=shape, classes=classes, train_examples=40, test_examples=6)
    assert data.train.images.shape == (40, *shape) and data.test.images.shape == (6, *shape)
    assert data.train.labels.tolist() == [i % classes for i in range(40)]
    assert data.spec.image_shape == shape and data.spec.num_classes == classes


def test_the_same_always_and_no_image_twice():
    data = _load(train_examples=60, test_examples=60)
    assert same(data.train, _load(train_examples=60, test_examples=60).train)
    assert same(data.test, _load(train_examples=10, test_examples=60).test)
    images = np.concatenate([data.train.images, data.test.images])
    assert len({image.tobytes() for image in images}) == 120
    assert data.train.images[0, 0, :3, 0].tolist() == [122, 170, 132]


def test_it_is_made_in_blocks(monkeypatch):
    monkeypatch.setattr("cnn_jax.data.sources.synthetic._CHUNK", 7 * 32 * 32 * 3)
    data = _load(train_examples=60)
    assert len({image.tobytes() for image in data.train.images}) == 60


def test_the_nearest_class_mean_is_right():
    data = _load(train_examples=200, test_examples=100)
    train, test = (s.images.reshape(len(s), -1).astype(float) for s in (data.train, data.test))
    means = np.stack([train[data.train.labels == label].mean(0) for label in range(10)])
    nearest = ((test[:, None] - means) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(nearest, data.test.labels)


def test_what_does_not_fit_is_refused():
    made = Synthetic(image_shape=(512, 512, 3), train_examples=10**9)
    message = refused("synthetic", synthetic=made)
    assert "needs" in message and "GiB of host memory" in message
