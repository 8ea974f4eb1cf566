"""The metric rows of a run, as they are read: one JSON object a line."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from cnn_jax.whole_files import strict, write_text

METRICS = "metrics.jsonl"  # in a run's directory
Row = dict[str, Any]  # numbers by name; of a population also `members`, a row or None for each


def read_rows(path: Path) -> list[Row]:
    """Returns the rows of a metrics file, without lines that a crash or a disk has damaged.

    Lines without a step are left out too: Writers never wrote them. Numbers that were not finite,
    which JSON has none of, are NaN again.
    """
    text, rows = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "", []
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return [_numbers(row) for row in rows if isinstance(row, dict) and "step" in row]


def _numbers(row: Row) -> Row:
    members = [each and _numbers(each) for each in row.get("members", [])]
    numbers = {name: math.nan if value is None else value for name, value in row.items()}
    return numbers | {"members": members} if members else numbers


def member_rows(rows: list[Row], number: int) -> list[Row]:
    """Returns the rows of one member of a population, as a run alone would have written them.

    >>> member_rows([{"step": 2, "epoch": 1.0, "members": [None, {"train_loss": 0.5}]}], 1)
    [{'step': 2, 'epoch': 1.0, 'train_loss': 0.5}]
    """
    return [
        {"step": row["step"], "epoch": row["epoch"], **own}
        for row in rows
        if (own := row["members"][number])
    ]


def drop_rows_after(path: Path, step: int) -> None:
    """Rewrites a metrics file without the rows after `step`."""
    rows = read_rows(path)
    kept = [row for row in rows if row["step"] <= step]
    if path.exists():
        write_text(path, "".join(json.dumps(strict(row)) + "\n" for row in kept))
