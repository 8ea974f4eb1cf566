"""The most main memory that this process held at once, of itself and not of who started it."""

import contextlib
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_rss() -> int | None:
    """Returns the most bytes of main memory that this process held, None where that is unknown.

    >>> from cnn_jax.peak_rss import peak_rss
    >>> peak_rss() > 2**20
    True
    """
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return _said_by_the_system("RUSAGE_SELF")  # on Linux it begins with the peak of the parent


def peak_rss_with_children() -> int | None:
    """Returns the same, or that of the largest of its processes that has ended, if it is more."""
    peaks = peak_rss(), _said_by_the_system("RUSAGE_CHILDREN")
    return max((peak for peak in peaks if peak is not None), default=None)


def _said_by_the_system(who: str) -> int | None:
    try:
        import resource
    except ImportError:  # on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(getattr(resource, who)).ru_maxrss * unit
