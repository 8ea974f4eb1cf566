import os
import signal
import subprocess
import sys

import pytest

from cnn_jax.training.interruption import stop_on_signals

ONE_THEN_ANOTHER = """
import os, signal, sys
from cnn_jax.training.interruption import stop_on_signals

first, second = (signal.Signals[name] for name in sys.argv[1:])
with stop_on_signals() as request:
    os.kill(os.getpid(), first)
    print(request.reason, flush=True)
    os.kill(os.getpid(), second)
    print("still here", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_becomes_a_request(number):
    before = signal.getsignal(number)
    with stop_on_signals() as request:
        assert request.reason is None
        os.kill(os.getpid(), number)
        assert request.reason == number.name
    assert signal.getsignal(number) is before


def test_requests_do_not_outlive_their_run():
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    with stop_on_signals() as request:
        assert request.reason is None


@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGINT"), ("SIGINT", "SIGINT")])
def test_a_second_signal_ends_the_process_at_once(first, second):
    command = [sys.executable, "-c", ONE_THEN_ANOTHER, first, second]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.stdout.split() == [first]
    assert answer.returncode == -signal.Signals[second]
