"""Whether a network is right as often as it says: confidence against accuracy."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

BINS = 15


class Reliability(NamedTuple):
    """Examples by confidence, the probability of the predicted class, in bins of equal width."""

    edges: Float[np.ndarray, " bins_and_1"]  # a bin holds its upper edge, the first both
    counts: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]  # mean over the bin's examples; NaN where none is
    accuracy: Float[np.ndarray, " bins"]  # NaN where none is


def probabilities(
    logits: Float[np.ndarray, "n classes"], *, sigmoids: bool = False
) -> Float[np.ndarray, "n classes"]:
    """Returns the softmax, or each logit's own sigmoid, in float64.

    >>> probabilities(np.zeros((1, 4))).tolist(), probabilities(np.zeros((1, 1)), sigmoids=True)
    ([[0.25, 0.25, 0.25, 0.25]], array([[0.5]]))
    """
    if sigmoids:
        return 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True), dtype=np.float64)
    return powers / powers.sum(axis=-1, keepdims=True)


def confidences(
    logits: Float[np.ndarray, "n classes"], *, sigmoids: bool = False
) -> Float[np.ndarray, " n"]:
    """Returns the probability of each row's most probable class.

    >>> confidences(np.zeros((1, 4))).item(), confidences(np.zeros((1, 4)), sigmoids=True).item()
    (0.25, 0.5)
    """
    return probabilities(logits, sigmoids=sigmoids).max(axis=-1)


def reliability(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"], *, bins: int = BINS
) -> Reliability:
    """Returns the reliability diagram (Guo et al., 2017, arXiv 1706.04599, section 2).

    >>> found = reliability(np.array([0.9, 0.7]), np.array([True, False]), bins=2)
    >>> found.counts.tolist(), found.confidence.tolist()[1], found.accuracy.tolist()[1]
    ([0, 2], 0.8, 0.5)
    """
    edges = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    filled = np.where(counts > 0, counts, np.nan)
    return Reliability(
        edges=edges,
        counts=counts,
        confidence=np.bincount(index, confidence, minlength=bins) / filled,
        accuracy=np.bincount(index, correct, minlength=bins) / filled,
    )


def calibration_error(diagram: Reliability) -> float:
    """Returns the expected calibration error, ECE: the mean gap, bins weighted by their examples.

    Raises:
      ValueError: the diagram is of no examples.

    >>> found = reliability(np.array([0.9, 0.7]), np.array([True, False]), bins=2)
    >>> round(calibration_error(found), 6)
    0.3
    """
    total = diagram.counts.sum()
    if not total:
        raise ValueError("no examples, no calibration error")
    gaps = np.abs(diagram.accuracy - diagram.confidence)
    gaps = np.where(diagram.counts > 0, gaps, 0.0)  # of bins with examples; NaN is NaN
    return float(np.sum(gaps * diagram.counts) / total)
