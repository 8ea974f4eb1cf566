"""Freed memory is kept: taken again, its pages are there."""

import platform
import subprocess
import sys

import pytest

from tests.experiments.command import ROOT

FAULTS = """
import resource
from experiments.host_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * size
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

size = 100 << 20
keep_freed_memory()
print(faults(), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone is told")
def test_what_is_freed_is_taken_again():
    answer = subprocess.run(
        [sys.executable, "-c", FAULTS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    first, again = map(int, answer.stdout.split())
    assert again < first / 10
