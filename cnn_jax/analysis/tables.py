"""The tables of an evaluation as CSV files."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int


def write_confusion_matrix(
    path: Path, matrix: Int[np.ndarray, "classes classes"], class_names: Sequence[str]
) -> None:
    """Writes how often each true class (row) was taken for each class (column)."""
    rows = ([name, *counts] for name, counts in zip(class_names, matrix.tolist(), strict=True))
    _write(path, ["true \\ predicted", *class_names], rows)


def write_per_class(
    path: Path,
    examples: Int[np.ndarray, " classes"],
    scores: Mapping[str, Float[np.ndarray, " classes"]],
    class_names: Sequence[str],
) -> None:
    """Writes the number of examples of each class and its scores: precision, recall and F1."""
    columns = (class_names, examples.tolist(), *(s.tolist() for s in scores.values()))
    _write(path, ["class", "examples", *scores], zip(*columns, strict=True))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
