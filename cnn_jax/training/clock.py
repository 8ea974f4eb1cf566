"""Where the time of a run goes: every instant belongs to exactly one stage."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path


class Clock:
    """Adds up seconds per stage; the stages sum to the wall time since `start`.

    >>> clock = Clock("import")
    >>> with clock.stage("train"):
    ...     pass
    >>> sorted(clock.seconds())
    ['import', 'train']
    """

    def __init__(self, stage: str = "other", start: float | None = None):
        self._stage = stage
        self._since = time.perf_counter() if start is None else start
        self._seconds: dict[str, float] = {}

    def switch(self, stage: str) -> str:
        """Ends the current stage, begins another, returns the name of the one that ended."""
        now, ended = time.perf_counter(), self._stage
        self._seconds[ended] = self._seconds.get(ended, 0.0) + now - self._since
        self._stage, self._since = stage, now
        return ended

    @contextlib.contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Counts the time of a block to `stage`, then goes on with the stage before."""
        before = self.switch(stage)
        try:
            yield
        finally:
            self.switch(before)

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of each stage up to now."""
        self.switch(self._stage)
        return dict(self._seconds)


def process_start() -> float:
    """Returns the `time.perf_counter()` at which this process began.

    Linux says it to a hundredth of a second; elsewhere it is taken to have computed ever since.
    """
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        age = time.process_time()
    return time.perf_counter() - age
