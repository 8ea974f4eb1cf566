"""Where metric rows go: a JSON-lines file and TensorBoard events."""

import contextlib
import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from cnn_jax.errors import writing
from cnn_jax.metric_rows import METRICS, Row, drop_rows_after
from cnn_jax.training.processes import is_first
from cnn_jax.whole_files import strict

_BINS = 64


class Writers:
    """Writes each row to `metrics.jsonl` and, as scalars, to TensorBoard.

    Started at step s of a resumed run, it first drops the rows after s: they belong to steps that
    will be taken again.
    """

    def __init__(self, workdir: Path, step: int):
        # Imported here: it takes a fifth of a second, and only runs that write need it.
        from tensorboardX.event_file_writer import EventsWriter

        path = workdir / METRICS
        drop_rows_after(path, step)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed in __exit__)
        self._unwritten = b""
        (workdir / "tensorboard").mkdir(exist_ok=True)
        # Not SummaryWriter: its thread dies silently on a full disk, and the run then waits for it.
        self._events = EventsWriter(str(workdir / "tensorboard" / "events"))
        self._events.write_event(_restarted(step + 1))

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        with contextlib.suppress(OSError):  # said when it was written
            self._events.close()

    def write(self, row: Row) -> None:
        """Writes one row, which has a `step`; on disk when the call returns.

        Raises:
          OSError: the disk is full, say. The file still ends with a whole row; this one is written
            together with the next.
        """
        self._unwritten += json.dumps(strict(row)).encode() + b"\n"
        size = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(self._unwritten) < len(self._unwritten):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._file.truncate(size)
            raise
        self._unwritten = b""
        self._events.write_event(_scalars(row))
        self._events.flush()

    def image(self, name: str, picture: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """Shows a picture in TensorBoard."""
        from tensorboardX.summary import image

        self._show(image(name, picture, dataformats="HWC"), step)

    def histogram(self, name: str, values: Float[np.ndarray, " n"], step: int) -> None:
        """Shows in TensorBoard how values are distributed; those not finite are left out."""
        from tensorboardX.summary import histogram

        finite = values[np.isfinite(values)]
        if len(finite):
            self._show(histogram(name, finite, _BINS), step)

    def _show(self, summary: Any, step: int) -> None:
        with contextlib.suppress(OSError):  # the next row meets the full disk too, and tells of it
            self._events.write_event(_event(summary, step))


class Silent(Writers):
    """Writes nothing: in processes that are not the first."""

    def __init__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, row: Row) -> None:
        """Does nothing."""


def open_writers(workdir: Path, step: int) -> Writers:
    """Returns what writes the rows after `step`: to files in the first process, nowhere in others.

    Raises:
      RunError: they can't be opened.
    """
    if not is_first():
        return Silent()
    with writing(workdir / METRICS):
        return Writers(workdir, step)


def _restarted(step: int) -> Any:
    """Returns the event at which TensorBoard forgets what an earlier start wrote from `step` on."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    log = SessionLog(status=SessionLog.START)
    return Event(wall_time=time.time(), step=step, session_log=log)


def _scalars(row: Row) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary

    values = [
        Summary.Value(tag=name, simple_value=value)
        for name, value in row.items()
        if name not in ("step", "members")
    ]
    return _event(Summary(value=values), int(row["step"]))


def _event(summary: Any, step: int) -> Any:
    from tensorboardX.proto.event_pb2 import Event

    return Event(wall_time=time.time(), step=step, summary=summary)
