"""A run that takes no steps any more ends, so that whoever started it can start it again."""

import contextlib
import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator

from cnn_jax.training.processes import who


@contextlib.contextmanager
def ended_if_stalled(seconds: float) -> Iterator[Callable[[int], None]]:
    """Gives what is to be called with each step taken; if it isn't for so long, the process ends.

    That is for a process that waits for another which is alive but stuck, or for a device or a file
    system that doesn't answer: nothing else would ever end it. The exit code is 1; before it comes
    where each thread is, on stderr. 0 seconds: it waits for ever.
    """
    taken, done = threading.Event(), threading.Event()
    last: int | None = None

    def note(step: int) -> None:
        nonlocal last
        last = step
        taken.set()

    def watch() -> None:
        while taken.wait(seconds):
            taken.clear()
            if done.is_set():
                return
        after = "since it began" if last is None else f"after step {last}"
        faulthandler.dump_traceback(sys.__stderr__)
        print(
            f"error: {who()} has taken no step for {seconds:g} s, {after} "
            "(train.stall_seconds); the last checkpoint is kept, start it again",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True, name="stall")
    if seconds:
        watcher.start()
    try:
        yield note
    finally:
        done.set()
        taken.set()
