"""Which devices or cores each of several processes on this machine uses."""

import dataclasses
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.command_line import LaunchError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ONE_TPU_PROCESS = {"TPU_PROCESS_BOUNDS": "1,1,1", "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1"}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a process computes: its environment variables, and its cores if it is held to some."""

    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cpus: Sequence[int] = ()


def places(workers: int, *, share: bool = False) -> list[Place]:
    """Returns a place for each of several workers: its own GPUs or TPU chips, else its own cores.

    A single worker gets all there is.

    Args:
      workers: how many.
      share: whether several may use the same device or core; GPU memory is divided among them.

    Raises:
      LaunchError: there are more workers than devices, or than cores, and they may not share.
    """
    if workers == 1:
        return [Place()]
    kind, devices = available()
    if workers > len(devices) and not share:
        raise LaunchError(
            f"--workers={workers}, but there {'is' if len(devices) == 1 else 'are'} {len(devices)} "
            f"{kind}{'' if len(devices) == 1 else 's'} here; take --workers={len(devices)}, or "
            "--share to let several use one"
        )
    sharing = -(-workers // len(devices))
    return [_place(kind, part, sharing) for part in divide(devices, workers)]


def available() -> tuple[str, list[str]]:
    """Returns the kind of device that jax would use here, and each one's number."""
    if os.environ.get("JAX_PLATFORMS", "").split(",")[0] != "cpu":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible:
            return "GPU", visible.split(",")
        gpus = _numbered("/dev", r"nvidia(\d+)") if visible is None else []
        if gpus:
            return "GPU", gpus
        chips = _numbered("/dev", r"accel(\d+)") or _numbered("/dev/vfio", r"(\d+)")
        if chips:
            return "TPU chip", [str(i) for i in range(len(chips))]
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    return "core", [str(core) for core in sorted(cores)]


def divide(devices: Sequence[str], workers: int) -> list[list[str]]:
    """Returns each worker's devices: shares as equal as can be, or one that several have.

    >>> divide(["0", "1", "2", "3", "4"], 2)
    [['0', '1', '2'], ['3', '4']]
    >>> divide(["0", "1"], 3)
    [['0'], ['1'], ['0']]
    """
    if workers > len(devices):
        return [[devices[i % len(devices)]] for i in range(workers)]
    size, more = divmod(len(devices), workers)
    ends = [i * size + min(i, more) for i in range(workers + 1)]
    return [list(devices[a:b]) for a, b in itertools.pairwise(ends)]


def _place(kind: str, devices: Sequence[str], sharing: int) -> Place:
    """Returns the place of a worker with devices that as many share, at most."""
    if kind == "core":
        threads = str(len(devices))
        return Place(dict.fromkeys(_THREADS, threads), [int(core) for core in devices])
    names = ",".join(devices)
    if kind == "GPU":
        share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / sharing:.2f}"} if sharing > 1 else {}
        return Place({"CUDA_VISIBLE_DEVICES": names} | share)
    alone = _ONE_TPU_PROCESS if len(devices) == 1 else {}
    return Place({"TPU_VISIBLE_CHIPS": names, "TPU_VISIBLE_DEVICES": names} | alone)


def _numbered(folder: str, pattern: str) -> list[str]:
    path = Path(folder)
    names = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    found = (re.fullmatch(pattern, name) for name in names)
    return sorted((match[1] for match in found if match), key=int)
