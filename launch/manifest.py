"""What was launched, when, from which commit, and under which ids: DIR/manifest.json."""

import json
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launch.command_line import LaunchError
from launch.whole_files import write_json

MANIFEST = "manifest.json"


def write_manifest(workdir: Path, command: Sequence[str], **ids: Any) -> Mapping[str, Any]:
    """Adds an entry to the manifest of a directory, which is a list of what was launched there."""
    path = workdir / MANIFEST
    entry = {
        "command": shlex.join(command),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
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


def commit() -> str | None:
    """Returns the commit of this code, with "+changes" if files differ; None without git."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
    try:
        answer = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
