"""How well each class is told from the others, from logits and labels."""

import numpy as np
from jaxtyping import Float, Int, UInt8


def confusion_matrix(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> Int[np.ndarray, "classes classes"]:
    """Returns how often class i (row) was taken for class j (column).

    >>> confusion_matrix(np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 0])).tolist()
    [[1, 1], [0, 0]]
    """
    classes = logits.shape[-1]
    flat = labels.astype(np.int64) * classes + logits.argmax(axis=-1)
    return np.bincount(flat, minlength=classes**2).reshape(classes, classes)


def per_class(
    matrix: Int[np.ndarray, "classes classes"],
) -> dict[str, Float[np.ndarray, " classes"]]:
    """Returns precision, recall and F1 per class; a class never predicted or absent has zero."""
    return _scores(np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1))


def per_label(
    logits: Float[np.ndarray, "n classes"], labels: UInt8[np.ndarray, "n classes"]
) -> dict[str, Float[np.ndarray, " classes"]]:
    """Returns precision, recall and F1 per class where an example may be of several: predicted is
    what has a logit above zero.

    >>> per_label(np.array([[1.0, 1.0], [-1.0, 2.0]]), np.array([[1, 0], [1, 1]], "u1"))["recall"]
    array([0.5, 1. ])
    """
    predicted, there = logits > 0, labels > 0
    return _scores((predicted & there).sum(axis=0), predicted.sum(axis=0), there.sum(axis=0))


def _scores(
    hits: Int[np.ndarray, " classes"],
    predicted: Int[np.ndarray, " classes"],
    there: Int[np.ndarray, " classes"],
) -> dict[str, Float[np.ndarray, " classes"]]:
    precision, recall = (hits / np.maximum(count, 1) for count in (predicted, there))
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    return {"precision": precision, "recall": recall, "f1": f1}
