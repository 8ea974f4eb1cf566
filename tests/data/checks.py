"""What the tests of data sources share: loading, being refused, comparing splits."""

import numpy as np
import pytest

from cnn_jax.config import Data
from cnn_jax.data.datasets import load_dataset
from cnn_jax.errors import InputError


def load(name, place="", **fields):
    """Loads a dataset from a place, with other fields of the config if given."""
    return load_dataset(Data(name=name, dir=str(place), **fields))


def refused(name, place="", *, by=load_dataset, **fields):
    """Returns the one line with which a dataset is refused."""
    with pytest.raises(InputError) as caught:
        by(Data(name=name, dir=str(place), **fields))
    message = str(caught.value)
    assert "\n" not in message
    return message


def same(a, b):
    """Whether two splits hold the same."""
    return np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
