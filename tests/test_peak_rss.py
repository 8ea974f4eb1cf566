"""How much memory a process held, whoever started it."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from cnn_jax import peak_rss

ROOT = Path(__file__).parent.parent
SIZE = 2**28


def run(code):
    """Returns the number that Python code prints in a process of its own."""
    command = [sys.executable, "-c", code]
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)


def test_a_process_has_its_own_peak_not_that_of_its_parent():
    held = np.ones(SIZE, np.uint8)
    small = run("from cnn_jax.peak_rss import peak_rss; print(peak_rss())")
    assert 2**20 < small < SIZE / 4
    assert peak_rss.peak_rss() >= held.nbytes


def test_a_child_may_be_the_larger():
    both = (
        "import subprocess, sys; from cnn_jax.peak_rss import *; "
        f"subprocess.run([sys.executable, '-c', 'held = b\"1\" * {SIZE}']); print({{}}())"
    )
    assert run(both.format("peak_rss")) < SIZE / 4
    assert run(both.format("peak_rss_with_children")) >= SIZE


def test_where_proc_is_missing_the_system_is_asked(monkeypatch, tmp_path):
    known = peak_rss.peak_rss()
    monkeypatch.setattr(peak_rss, "_STATUS", tmp_path / "missing")
    assert peak_rss.peak_rss() >= 0.9 * known
