"""Files written whole or not at all: a reader, or a run that is killed, never meets half of one."""

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields where to write; what is there at the end takes the place of `path` in one step.

    If something fails before, `path` is as it was, and nothing is left beside it.

    >>> import tempfile
    >>> from cnn_jax.whole_files import replacing
    >>> path = Path(tempfile.mkdtemp()) / "numbers.txt"
    >>> with replacing(path) as scratch:
    ...     _ = scratch.write_text("1 2 3")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('1 2 3', 1)
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield scratch
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file, and through to the disk before it takes its name."""
    # A path that is no text has surrogates; as backslashes they are what JSON writes for them.
    with (
        replacing(path) as scratch,
        open(scratch, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file for people to read, too; numbers that are not finite are null there."""
    write_text(path, json.dumps(strict(value), indent=2, ensure_ascii=False) + "\n")


def strict(value: Any) -> Any:
    """Returns a value as JSON can have it, whose numbers are finite; None stands for the others.

    >>> from cnn_jax.whole_files import strict
    >>> strict({"loss": [0.5, float("nan")]})
    {'loss': [0.5, None]}
    """
    if isinstance(value, dict):
        return {name: strict(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
