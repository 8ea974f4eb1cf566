"""The commit that code is at."""

import subprocess
from pathlib import Path


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
