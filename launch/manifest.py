"""What was launched, when, from which commit, and under which ids: DIR/manifest.json."""

import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnn_jax.git import git_commit
from cnn_jax.whole_files import write_json
from launch.command_line import LaunchError

MANIFEST = "manifest.json"


def write_manifest(workdir: Path, command: Sequence[str], **ids: Any) -> Mapping[str, Any]:
    """Adds an entry to the manifest of a directory, which is a list of what was launched there."""
    path = workdir / MANIFEST
    entry = {
        "command": shlex.join(command),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(Path(__file__).parent),
        "host": platform.node(),
        "process": os.getpid(),
        **ids,
    }
    workdir.mkdir(parents=True, exist_ok=True)
    before = read_manifest(workdir)
    write_json(path, [*before, entry])
    return entry


def read_manifest(workdir: Path) -> list[Mapping[str, Any]]:
    """Returns the entries so far.

    Raises:
      LaunchError: the file is damaged.
    """
    path = workdir / MANIFEST
    try:
        entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    except (ValueError, OSError) as error:
        raise LaunchError(f"{path} is damaged; move it away") from error
    if not isinstance(entries, list):
        raise LaunchError(f"{path} is damaged; move it away")
    return entries
