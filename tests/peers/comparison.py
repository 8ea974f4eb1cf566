"""One set of random weights, two networks, one number: how far their logits are apart."""

import warnings
from functools import partial

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.models.networks import make_images, make_variables

TOLERANCE = 1e-4


def import_peer(name):
    """Returns a package, or skips the tests of a file where it isn't installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def weights_by_layer(variables):
    """Returns {layer: {kernel, bias, scale, mean or var: array}}, paths joined by underscores."""
    layers = {}
    for collection in variables.values():
        for path, array in flatten_dict(collection).items():
            layers.setdefault("_".join(path[:-1]), {})[path[-1]] = np.asarray(array)
    return layers


def check_logits(name, model, shape, peer_logits):
    """Checks that peer_logits(weights by layer, images) are the model's, but for rounding.

    The images are sharp and the running statistics random, so that padding, pooling, the order of
    flattening and every constant of a norm leave their mark.
    """
    variables = make_variables(model, shape)
    images = make_images(shape, count=2)
    logits = np.asarray(jax.jit(partial(model.apply, train=False))(variables, images))
    expected = peer_logits(weights_by_layer(variables), np.asarray(images))
    assert logits.shape == expected.shape
    difference = np.abs(logits - expected).max() / np.abs(expected).max()
    print(f"{name}: largest difference {difference:.1e} of the largest logit")
    assert difference < TOLERANCE
