"""Where metric rows go: a JSON-lines file and TensorBoard events."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from cnn_jax.training.run_directory import METRICS, write_atomically

Row = dict[str, Any]  # numbers by name; of a population also `members`, a row or None for each
_BINS = 64


class Writers:
    """Writes each row to `metrics.jsonl` and, as scalars, to TensorBoard.

    Started at step s of a resumed run, it first drops the rows after s: they belong to steps that
    will be taken again.
    """

    def __init__(self, workdir: Path, step: int):
        # Imported here: it takes a fifth of a second, and only runs that write need it.
        from tensorboardX import SummaryWriter

        path = workdir / METRICS
        drop_rows_after(path, step)
        self._jsonl = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed in close)
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, *_: object) -> None:
        self._jsonl.close()
        self._events.close()

    def write(self, row: Row) -> None:
        """Writes one row, which has a `step`; on disk when the call returns."""
        self._jsonl.write(json.dumps(row) + "\n")
        self._jsonl.flush()
        for name, value in row.items():
            if name not in ("step", "members"):
                self._events.add_scalar(name, value, row["step"])

    def image(self, name: str, picture: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """Shows a picture in TensorBoard."""
        self._events.add_image(name, picture, step, dataformats="HWC")

    def histogram(self, name: str, values: Float[np.ndarray, " n"], step: int) -> None:
        """Shows in TensorBoard how values are distributed; those not finite are left out."""
        finite = values[np.isfinite(values)]
        if len(finite):
            self._events.add_histogram(name, finite, step, bins=_BINS)


def read_rows(path: Path) -> list[Row]:
    """Returns the rows of a metrics file; a last line cut short by a crash is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def drop_rows_after(path: Path, step: int) -> None:
    """Rewrites a metrics file without the rows after `step`."""
    rows = read_rows(path)
    kept = [row for row in rows if row["step"] <= step]
    if path.exists():
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
