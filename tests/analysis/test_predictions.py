import dataclasses

import numpy as np
import pytest

from cnn_jax.analysis.predictions import Predictions, condensed, confused_pairs, evenly_spaced
from cnn_jax.data.spec import Split

LOGITS = np.array([[0, 5, 0], [9, 0, 0], [0, 0, 1], [0, 7, 0], [3, 0, 0]], np.float32)
LABELS = np.array([0, 0, 1, 2, 0], np.int32)
IMAGES = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
SAID = Predictions(LOGITS, Split(IMAGES, LABELS))
MATRIX = np.random.default_rng(0).integers(0, 9, (12, 12))


def test_mistakes_come_the_most_confident_first():
    assert SAID.mistakes(9).tolist() == [3, 0, 2]
    assert SAID.mistakes(2).tolist() == [3, 0]
    right = Predictions(LOGITS, Split(IMAGES, LOGITS.argmax(axis=1).astype(np.int32)))
    assert right.mistakes(9).tolist() == []


@pytest.mark.parametrize(
    ("sigmoids", "sure"), [(False, np.exp(7) / (np.exp(7) + 2)), (True, 1 / (1 + np.exp(-7)))]
)
def test_what_is_shown_of_an_example(sigmoids, sure):
    said = dataclasses.replace(SAID, sigmoids=sigmoids)
    first, second = said.shown(np.array([3, 1]))
    assert (first.image.item(), first.label, first.predicted) == (3, 2, 1)
    assert (second.image.item(), second.label, second.predicted) == (1, 0, 0)
    assert first.confidence == pytest.approx(sure)


def test_with_many_labels_every_class_is_a_decision():
    labels = np.array([[1, 0], [1, 1]], np.uint8)
    logits = np.array([[2.0, -1.0], [-3.0, 0.5]], np.float32)
    said = Predictions(logits, Split(IMAGES[:2], labels))
    confidence, right = said.decisions()
    assert said.multi_label and not SAID.multi_label
    assert right.tolist() == [True, True, False, True]
    np.testing.assert_allclose(confidence, 1 / (1 + np.exp([-2.0, -1.0, -3.0, -0.5])), rtol=1e-6)


@pytest.mark.parametrize(("count", "most"), [(1, 24), (24, 24), (25, 24), (10_000, 24)])
def test_examples_reach_from_the_first_to_the_last(count, most):
    found = evenly_spaced(range(count), most=most)
    assert (found[0], found[-1], len(found)) == (0, count - 1, min(count, most))
    assert len(set(np.diff(found))) <= 2


def test_confused_pairs_are_the_largest_off_the_diagonal():
    pairs = confused_pairs(MATRIX, most=5)
    every = sorted((MATRIX[i, j] for i in range(12) for j in range(12) if i != j), reverse=True)
    assert [count for *_, count in pairs] == every[:5]
    assert all(MATRIX[i, j] == count and i != j for i, j, count in pairs)
    assert confused_pairs(np.eye(3, dtype=int), most=5) == []


def test_a_condensed_matrix_keeps_pairs_and_loses_no_example():
    small, kept = condensed(MATRIX, most=5)
    assert small.shape == (5, 5) and len(kept) == 4
    assert small.sum() == MATRIX.sum()
    np.testing.assert_array_equal(small[:4, :4], MATRIX[np.ix_(kept, kept)])
    np.testing.assert_array_equal(small[:4].sum(axis=1), MATRIX.sum(axis=1)[kept])
    i, j, _ = confused_pairs(MATRIX, most=1)[0]
    assert {i, j} <= set(kept)


def test_few_classes_are_left_as_they_are():
    small, kept = condensed(MATRIX, most=12)
    np.testing.assert_array_equal(small, MATRIX)
    assert kept.tolist() == list(range(12))


def test_without_mistakes_any_classes_will_do():
    small, kept = condensed(4 * np.eye(9, dtype=int), most=3)
    assert small.tolist() == [[4, 0, 0], [0, 4, 0], [0, 0, 28]]
    assert len(kept) == 2
