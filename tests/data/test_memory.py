"""The estimate of host memory: the least of what the machine and its control group leave."""

import pytest

from cnn_jax.data.sources import memory
from cnn_jax.errors import InputError


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Writes the control group's limit and use."""
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)

    def write(limit, used):
        (tmp_path / "memory.max").write_text(limit)
        (tmp_path / "memory.current").write_text(used)

    return write


def test_a_limit_counts(group):
    without = memory.available_memory()
    assert without > 2**20
    group("5000\n", "2000\n")
    assert memory.available_memory() == 3000
    group("max\n", "2000\n")
    assert memory.available_memory() > 2**20


def test_what_fits_and_what_does_not(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * 10 * 4 * 4 * 3)
    memory.check_memory(10, (4, 4, 3), "this")
    with pytest.raises(InputError, match="this, 11 images of 4 x 4 x 3, needs"):
        memory.check_memory(11, (4, 4, 3), "this")
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    memory.check_memory(11, (4, 4, 3), "this")
