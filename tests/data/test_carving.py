"""Which examples are set apart: random, balanced where promised, and the same everywhere."""

import numpy as np
import pytest

from cnn_jax.data.carving import carve_test, carve_validation
from cnn_jax.data.spec import Split
from cnn_jax.errors import InputError


def test_carving_depends_on_no_seed_and_no_machine():
    train = Split(np.zeros((20, 1, 1, 1), np.uint8), np.arange(20, dtype=np.int32))
    for seed in 0, 1:
        np.random.seed(seed)  # noqa: NPY002
        carved = carve_validation(train, 0.3)[1]
        assert carved.labels.tolist() == [1, 10, 11, 12, 15, 18]


def test_carving_sorted_examples_reaches_every_class():
    train = Split(
        np.zeros((1000, 1, 1, 1), np.uint8), np.repeat(np.arange(10, dtype=np.int32), 100)
    )
    counts = np.bincount(carve_validation(train, 0.1)[1].labels, minlength=10)
    assert counts.min() >= 4 and counts.max() <= 18


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.99])
def test_a_test_fraction_must_leave_both_parts(fraction):
    with pytest.raises(InputError, match=f"test_fraction {fraction} of the 10 examples of here"):
        carve_test(np.arange(10, dtype=np.int32), fraction, "here")
