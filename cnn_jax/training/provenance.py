"""Where and with what a run was made."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

_PACKAGES = ("cnn_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def facts(mesh: Mesh) -> dict[str, Any]:
    """Returns versions, device and git commit, for `result.json`."""
    device = mesh.devices.flat[0]
    return {
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in _PACKAGES},
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": mesh.size,
        "processes": jax.process_count(),
        "git_commit": git_commit(Path(__file__).parent),
        "command": sys.argv,
    }


def device_line(mesh: Mesh) -> str:
    """Returns the devices in a few words.

    >>> device_line(jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]))
    '1 cpu device'
    """
    device = mesh.devices.flat[0]
    kind = device.platform if device.platform == "cpu" else device.device_kind
    return f"{mesh.size} {kind} device{'s' if mesh.size > 1 else ''}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_commit(directory: Path) -> str | None:
    """Returns the commit a directory is at, with "+changes" if files differ; None without git."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
    try:
        answer = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
