"""Whether a dataset fits into memory, asked before and not found out by being killed."""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

from cnn_jax.config import Data
from cnn_jax.errors import InputError

RESIDENT_SHARE = 0.4  # of the memory for it that a resident dataset may take; the rest is for work
_CGROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# Files of a control group, version 2 and 1: its limit, what it uses, and of that unused files.
_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_memory() -> int | None:
    """Returns how many bytes this process can still get, or None where that can't be known.

    The least of what the machine has available and what its control group (a container's or a
    job's limit) and those around it leave; on systems other than Linux, the memory of the machine.
    """
    limits = list(_left_in_groups())
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        facts = dict(line.split(":", 1) for line in lines)
        limits.append(int(facts["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits) if limits else None


def _left_in_groups() -> Iterator[int]:
    """Yields what each control group around this process leaves, where one limits memory."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        version, top = (1, _CGROUPS / "memory") if controllers else (2, _CGROUPS)
        own = Path(path.lstrip("/"))
        for place in (own, *own.parents):  # in a container the own path may lie outside of it
            with contextlib.suppress(OSError, ValueError):  # no such files, or "max": no limit
                yield _left(top / place, *_FILES[version])


def _left(group: Path, limit: str, used: str, unused: str) -> int:
    left = int((group / limit).read_text()) - int((group / used).read_text())
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = (group / "memory.stat").read_text().splitlines()
        left += int(dict(line.split() for line in lines)[unused])
    return left


def choose_feed(
    data: Data, examples: int, shape: tuple[int, int, int], what: str, *, memory: int | None
) -> str:
    """Returns "resident" or "streaming": what `data.feed` says, or which it is for this dataset.

    By itself a dataset is resident if its images, as uint8, take at most `RESIDENT_SHARE` of
    `memory` (bytes; None: unknown) and can be loaded into the host's memory; but not where random
    crops are cut from files.

    Raises:
      InputError: it is to be resident and doesn't fit into the host's memory.
    """
    needed = examples * math.prod(shape)
    host = available_memory()
    fits = (memory is None or needed <= RESIDENT_SHARE * memory) and (
        host is None or 2 * needed <= host
    )
    if data.feed == "streaming" or data.crop_files or (data.feed == "auto" and not fits):
        return "streaming"
    check_memory(examples, shape, what)
    return "resident"


def check_memory(examples: int, shape: tuple[int, int, int], what: str) -> None:
    """Checks that uint8 images fit into memory, twice: parts are copied when they are set apart.

    Raises:
      InputError: they don't.
    """
    height, width, channels = shape
    needed = 2 * examples * height * width * channels
    available = available_memory()
    if available is not None and needed > available:
        raise InputError(
            f"{what}, {examples:,} images of {height} x {width} x {channels}, needs "
            f"{needed / 2**30:.1f} GiB of host memory while it is loaded and "
            f"{available / 2**30:.1f} GiB are available; take smaller images or fewer of them"
        )
