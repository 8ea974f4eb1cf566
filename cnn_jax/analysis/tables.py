"""Tables of an evaluation as CSV files."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from cnn_jax.analysis.evaluation import per_class


def write_confusion_matrix(
    path: Path, matrix: Int[np.ndarray, "classes classes"], class_names: Sequence[str]
) -> None:
    """Writes how often each true class (row) was taken for each class (column)."""
    rows = ([name, *counts] for name, counts in zip(class_names, matrix.tolist(), strict=True))
    _write(path, ["true \\ predicted", *class_names], rows)


def write_per_class(
    path: Path, matrix: Int[np.ndarray, "classes classes"], class_names: Sequence[str]
) -> None:
    """Writes examples, precision, recall and F1 of each class."""
    scores = per_class(matrix)
    columns = (class_names, matrix.sum(axis=1).tolist(), *(s.tolist() for s in scores.values()))
    _write(path, ["class", "examples", *scores], zip(*columns, strict=True))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
