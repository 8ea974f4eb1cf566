"""Tables: those of an evaluation as CSV files, and the cells of a network's layers."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cnn_jax.analysis.summary import Row

LAYER_COLUMNS = (
    "layer",
    "kind",
    "output",
    "kernel",
    "stride",
    "parameters",
    "MFLOPs",
    "sees",
    "activation",
)


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


def layer_cells(row: Row) -> list[str]:
    """Returns one layer as text, a cell for each of `LAYER_COLUMNS`."""
    return [
        row.name,
        row.kind,
        times(row.output_shape),
        times(row.kernel),
        times(row.stride),
        f"{row.parameters:,}" if row.parameters else "",
        "?" if row.flops is None else f"{row.flops / 1e6:,.2f}",
        times(row.receptive_field),
        byte_text(row.activation_bytes),
    ]


def times(shape: tuple[int, ...] | None) -> str:
    """Returns sizes as a product.

    >>> times((3, 3)), times(None)
    ('3×3', '')
    """
    return "×".join(map(str, shape)) if shape else ""


def byte_text(count: int) -> str:
    """Returns a number of bytes in the unit that suits it.

    >>> byte_text(2560), byte_text(5 * 1024**2)
    ('2.5 KiB', '5.0 MiB')
    """
    return f"{count / 1024:,.1f} KiB" if count < 1024**2 else f"{count / 1024**2:,.1f} MiB"
