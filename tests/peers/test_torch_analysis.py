"""The PyTorch side of experiments.benchmark_analysis: the same maps, images that classes want."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.analysis.activation_maximization import Recipe
from cnn_jax.analysis.attribution import grad_cam
from cnn_jax.analysis.operations import operations
from cnn_jax.data.normalization import Normalization, normalize
from cnn_jax.errors import InputError
from tests.models.networks import CLASSES, make_variables, small_network
from tests.peers.comparison import TOLERANCE, import_peer

torch = import_peer("torch")
torch_analysis = pytest.importorskip("experiments.contenders.torch_analysis")

SHAPE = (32, 32, 3)
MEAN, STD = np.full((2, 1, 1, 3), [[[[0.4]]], [[[0.2]]]], np.float32)
CONSTANTS = Normalization("mean_std", MEAN, STD)


@pytest.fixture(scope="module")
def ours():
    model = small_network("cats_dogs")
    return model, make_variables(model, SHAPE)


@pytest.fixture(scope="module")
def theirs(ours):
    model, variables = ours
    return torch_analysis.trained(operations(model, SHAPE), variables, CONSTANTS)


@pytest.mark.parametrize("layer", ["conv3_relu", "pool4"])
def test_grad_cam_is_ours(ours, theirs, layer):
    rng = np.random.default_rng(0)
    images, labels = rng.random((4, *SHAPE), np.float32), np.array([0, 1, 2, 1], np.int32)
    prepare = partial(normalize, normalization=CONSTANTS)
    arrays = jnp.asarray(images), jnp.asarray(labels)
    expected = np.asarray(grad_cam(*ours, *arrays, layer=layer, prepare=prepare))
    found = torch_analysis.grad_cam(theirs, layer, images, labels)
    assert found.shape == expected.shape == (4, 32, 32)
    assert expected.max() > 0
    assert np.abs(found - expected).max() / expected.max() < TOLERANCE


def test_images_of_classes_grow_more_like_them(theirs):
    def mean_logit(steps):
        images = torch_analysis.class_images(theirs, SHAPE, CLASSES, Recipe(steps=steps, jitter=1))
        assert images.shape == (CLASSES, *SHAPE)
        assert 0 <= images.min() < images.max() <= 1
        return theirs(torch.from_numpy(images).permute(0, 3, 1, 2)).diagonal().mean()

    assert mean_logit(30) > mean_logit(1) + 1


def test_zca_whitening_is_refused(ours):
    whitened = Normalization("zca", MEAN, STD, np.eye(np.prod(SHAPE), dtype=np.float32))
    with pytest.raises(InputError, match="no ZCA whitening; take a run with mean_std"):
        torch_analysis.trained(operations(ours[0], SHAPE), ours[1], whitened)


def test_recipes_that_are_not_written_there_are_refused(theirs):
    for recipe in Recipe(spectrum=False), Recipe(blur=1.0):
        with pytest.raises(ValueError, match="without blur"):
            torch_analysis.class_images(theirs, SHAPE, CLASSES, recipe)
