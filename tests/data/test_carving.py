"""Which examples are set apart: random, balanced where promised, and the same everywhere."""

import re

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


@pytest.mark.parametrize("size", [2, 3, 7, 1500, 10**6])
def test_a_fraction_that_leaves_nothing_is_answered_with_some_that_do(size):
    train = Split(np.zeros((size, 1, 1, 1), np.uint8), np.zeros(size, np.int32))
    with pytest.raises(InputError, match=r"one part empty; it must be .* or 0") as caught:
        carve_validation(train, 1 - 0.1 / size)
    bounds = re.findall(r"0\.\d+|\d+e-\d+", str(caught.value).partition("must be")[2])
    for bound in bounds:
        assert len(carve_validation(train, float(bound))[1]) in (1, size - 1)
    assert len(bounds) == (1 if size == 2 else 2)
    with pytest.raises(InputError, match=f"it must be .*{bounds[0]}"):
        carve_test(train.labels, 0.0, "here")


@pytest.mark.parametrize("size", [0, 1])
def test_too_few_examples_to_carve_any(size):
    train = Split(np.zeros((size, 1, 1, 1), np.uint8), np.zeros(size, np.int32))
    with pytest.raises(InputError, match="leaves one part empty; it must be 0"):
        carve_validation(train, 0.1)
    with pytest.raises(InputError, match="leaves one part empty; there must be more"):
        carve_test(train.labels, 0.2, "here")


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.99])
def test_a_test_fraction_must_leave_both_parts(fraction):
    with pytest.raises(InputError, match=f"test_fraction {fraction} of the 10 examples of here"):
        carve_test(np.arange(10, dtype=np.int32), fraction, "here")
