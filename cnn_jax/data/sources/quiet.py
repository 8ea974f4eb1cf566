"""What a person gets to see while data is read: our words and bars, not the libraries'."""

import contextlib
import io
import logging
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def say(text: str) -> None:
    """Tells a person something, on stderr."""
    print(text, file=sys.stderr, flush=True)


def track(items: Iterable[Item], description: str, *, total: int, hidden: bool) -> Iterable[Item]:
    """Yields the items, with a progress bar on a terminal unless `hidden`."""
    from rich.console import Console
    from rich.progress import track

    hidden = hidden or not sys.stderr.isatty()
    console = Console(stderr=True)
    return track(items, description, total=total, console=console, transient=True, disable=hidden)


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Keeps TFDS's warnings in the log, such as advice to install OpenCV, from the user."""
    logger = logging.getLogger("absl")

    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(is_error)
    try:
        yield
    finally:
        logger.removeFilter(is_error)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps TFDS's warnings, prints and progress bars from the user."""
    with (
        no_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        yield
