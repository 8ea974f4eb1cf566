import numpy as np
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import precision_recall_fscore_support

from cnn_jax.analysis.class_scores import confusion_matrix, per_class

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 4)).astype(np.float32)
LABELS = RNG.integers(0, 4, 50).astype(np.int32)


def test_the_confusion_matrix_is_scikit_learns():
    matrix = confusion_matrix(LOGITS, LABELS)
    np.testing.assert_array_equal(matrix, sklearn_confusion(LABELS, LOGITS.argmax(axis=1)))
    assert matrix.sum() == 50


def test_scores_per_class_are_scikit_learns():
    scores = per_class(confusion_matrix(LOGITS, LABELS))
    expected = precision_recall_fscore_support(LABELS, LOGITS.argmax(axis=1))
    for found, wanted in zip(scores.values(), expected[:3], strict=True):
        np.testing.assert_allclose(found, wanted)


def test_classes_never_seen_or_never_predicted_score_zero():
    scores = per_class(np.array([[2, 0, 0], [1, 0, 0], [0, 0, 0]]))
    np.testing.assert_allclose(scores["precision"], [2 / 3, 0, 0])
    np.testing.assert_allclose(scores["recall"], [1, 0, 0])
    np.testing.assert_allclose(scores["f1"], [0.8, 0, 0])
