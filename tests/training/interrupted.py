"""Runs that end in the middle: by a signal, or as a process does that is killed."""

import contextlib
import os
import signal

import pytest

from cnn_jax.training.interruption import Stopped
from cnn_jax.training.progress import Display


class Crash(Exception):
    """What ends a run on the spot, with whatever it has left on disk."""


def crash():
    raise Crash


def sigterm():
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def interrupted(step, act=crash, *, raises=(Crash, Stopped), match=None):
    """The run trained within acts once it has taken a step; gives what that raised, as `value`."""
    advance = Display.advance

    def acting(self, at):
        advance(self, at)
        if at == step:
            act()

    with pytest.MonkeyPatch.context() as patch, pytest.raises(raises, match=match) as caught:
        patch.setattr(Display, "advance", acting)
        yield caught
