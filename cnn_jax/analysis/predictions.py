"""What a network said of a split: which examples it got wrong, and how sure it was."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from cnn_jax.analysis.calibration import confidences
from cnn_jax.data.spec import Split

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """One example beside the prediction for it."""

    image: UInt8[np.ndarray, "h w c"]
    label: int
    predicted: int
    confidence: float  # the predicted class's probability


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """A split, and the logits of a network for it."""

    logits: Float[np.ndarray, "n classes"]
    split: Split
    sigmoids: bool = False  # a class's probability is its logit's sigmoid, not the softmax of all

    def __len__(self) -> int:
        return len(self.split)

    @property
    def multi_label(self) -> bool:
        """Whether an example may be of any number of classes."""
        return self.split.labels.ndim == 2

    def decisions(self) -> tuple[Float[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
        """Returns how sure each decision was, and whether it was right.

        There is a decision for each example, its class; or with many labels for each example and
        class, whether it is there.
        """
        if self.multi_label:
            each = np.abs(self.logits).reshape(-1, 1)
            right = (self.logits > 0) == (self.split.labels > 0)
            return confidences(each, sigmoids=True), right.reshape(-1)
        right = self.logits.argmax(axis=-1) == self.split.labels
        return confidences(self.logits, sigmoids=self.sigmoids), right

    def mistakes(self, most: int) -> Int[np.ndarray, " some"]:
        """Returns the indices of the wrong predictions, the most confident first, `most` at most.

        Examples have one class each.
        """
        confidence, right = self.decisions()
        wrong = np.flatnonzero(~right)
        return wrong[np.argsort(-confidence[wrong], kind="stable")[:most]]

    def shown(self, indices: Int[np.ndarray, " some"]) -> list[Shown]:
        """Returns some of the examples, of one class each, with what the network made of them."""
        logits, labels = self.logits[indices], self.split.labels[indices]
        sure = confidences(logits, sigmoids=self.sigmoids)
        columns = (self.split.images[indices], labels.tolist(), logits.argmax(-1).tolist(), sure)
        return [Shown(i, label, k, float(c)) for i, label, k, c in zip(*columns, strict=True)]


def evenly_spaced(items: Sequence[Item], *, most: int) -> list[Item]:
    """Returns up to `most` of the items, the first and the last among them.

    So a split that is sorted by class shows all of its classes.

    >>> evenly_spaced(range(10), most=4)
    [0, 3, 6, 9]
    """
    places = np.linspace(0, len(items) - 1, min(most, len(items)))
    return [items[round(at)] for at in places]


def confused_pairs(
    matrix: Int[np.ndarray, "classes classes"], *, most: int
) -> list[tuple[int, int, int]]:
    """Returns (true class, predicted class, how often) of the commonest mistakes, most first.

    >>> confused_pairs(np.array([[5, 1], [3, 5]]), most=3)
    [(1, 0, 3), (0, 1, 1)]
    """
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, wrong.shape)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(i, j, int(wrong[i, j])) for i, j in pairs if wrong[i, j]]


def condensed(
    matrix: Int[np.ndarray, "classes classes"], *, most: int
) -> tuple[Int[np.ndarray, "fewer fewer"], Int[np.ndarray, " kept"]]:
    """Returns a confusion matrix of few classes, and which of them it shows, in their order.

    Where there are more than `most` classes it keeps the `most` - 1 of the commonest mistakes; the
    last row and column add up all the others.

    >>> small, kept = condensed(np.array([[9, 0, 1], [0, 5, 4], [0, 3, 6]]), most=2)
    >>> small.tolist(), kept.tolist()
    ([[5, 4], [3, 16]], [1])
    """
    classes = len(matrix)
    if classes <= most:
        return matrix, np.arange(classes)
    pairs = confused_pairs(matrix, most=most)
    chosen = dict.fromkeys([*(i for pair in pairs for i in pair[:2]), *range(classes)])
    kept = np.sort(np.array(list(chosen)[: most - 1]))
    group = np.full(classes, most - 1)
    group[kept] = np.arange(most - 1)
    small = np.zeros((most, most), matrix.dtype)
    np.add.at(small, (group[:, None], group[None, :]), matrix)
    return small, kept
