"""Where and with what a run was made."""

import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from cnn_jax.git import git_commit
from cnn_jax.peak_rss import peak_rss

_PACKAGES = ("cnn_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def facts(mesh: Mesh) -> dict[str, Any]:
    """Returns versions, device and git commit, for `result.json`."""
    device = mesh.devices.flat[0]
    return {
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": mesh.size,
        "processes": jax.process_count(),
        **peak_memory(mesh),
        "git_commit": git_commit(Path(__file__).parent),
        "command": sys.argv,
    }


def peak_memory(mesh: Mesh) -> dict[str, Any]:
    """Returns the most memory used so far, in bytes, and whose: of one device, else of the process.

    >>> peak_memory(jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]))["peak_memory_of"]
    'process'
    """
    stats = [device.memory_stats() for device in mesh.local_devices]
    if all(each and "peak_bytes_in_use" in each for each in stats):
        most = max(each["peak_bytes_in_use"] for each in stats)
        return {"peak_memory_bytes": most, "peak_memory_of": "device"}
    return {"peak_memory_bytes": peak_rss(), "peak_memory_of": "process"}


def device_line(mesh: Mesh) -> str:
    """Returns the devices in a few words.

    >>> device_line(jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]))
    '1 cpu device'
    """
    device = mesh.devices.flat[0]
    kind = device.platform if device.platform == "cpu" else device.device_kind
    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{mesh.size} {kind} device{'s' if mesh.size > 1 else ''}{processes}"


def version(package: str) -> str | None:
    """Returns the version of a package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
