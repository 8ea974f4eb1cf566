"""Exact evaluation: every example of a split counts once, at any batch size and device count."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree, UInt8

from cnn_jax.training.metrics import compute, merge


class Evaluation(NamedTuple):
    """What one pass over a split gives."""

    metrics: dict[str, float]  # loss, accuracy
    examples: int
    logits: Float[np.ndarray, "n classes"]


def evaluate(
    eval_step: Callable,
    variables: PyTree,
    batches: Iterable[dict[str, jax.Array]],
    *,
    examples: int,
) -> Evaluation:
    """Returns metrics and logits over a whole split.

    Args:
      eval_step: eval_step(variables, batch) -> (sums, logits), compiled.
      variables: what the model takes.
      batches: the split in order, the last batch padded; `mask` is false for the padding.
      examples: how many true examples the split has; the count is checked against it.
    """
    outputs = []
    for batch in batches:
        outputs.append(eval_step(variables, batch))
        jax.block_until_ready(outputs[-2:-1])  # or streamed batches would pile up on the device
    sums, logits = zip(*jax.device_get(outputs), strict=True)
    totals = merge(sums)
    if totals["examples"] != examples:
        raise AssertionError(f"evaluated {totals['examples']:.0f} of {examples} examples")
    return Evaluation(compute(totals), examples, np.concatenate(logits)[:examples])


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
