"""What every command does around its own work."""

import subprocess
import sys

from tests.forks import ROOT

# Two that Python can raise to nobody, as from a thread of another language.
COMMAND = """
import asyncio
from experiments import command_line

class Late:
    def __init__(self, act):
        self.act = act

    def __del__(self):
        self.act()

def main(argv):
    loop = asyncio.new_event_loop()
    loop.close()
    Late(lambda: loop.call_soon_threadsafe(print))
    Late(lambda: 1 / 0)

command_line.run(main)
"""


def test_writes_that_come_too_late_do_not_bury_what_is_said_of_a_full_disk():
    done = subprocess.run([sys.executable, "-c", COMMAND], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Event loop is closed" not in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr
