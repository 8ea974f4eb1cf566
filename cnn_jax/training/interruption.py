"""Stopping on request: SIGTERM and SIGINT end a run after the current step, saved."""

import contextlib
import signal
from collections.abc import Iterator


class Stopped(Exception):
    """The run was stopped on request, with a checkpoint saved; started again it goes on."""


class StopRequest:
    """Whether a signal has asked the run to stop."""

    reason: str | None = None


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turns the first SIGTERM or SIGINT into a request; a second one ends the process at once."""
    request = StopRequest()
    signals = (signal.SIGTERM, signal.SIGINT)

    def handle(number: int, _: object) -> None:
        request.reason = signal.Signals(number).name
        for each in signals:
            signal.signal(each, signal.SIG_DFL)

    before = {each: signal.signal(each, handle) for each in signals}
    try:
        yield request
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
