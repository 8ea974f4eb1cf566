"""The estimate of host memory: the least of what the machine and its control group leave."""

import pytest

from cnn_jax.data.sources import memory
from cnn_jax.errors import InputError


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Writes files of a control group at a place, and which group this process is in."""
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "cgroup")

    def write(place, own, **files):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / place / f"memory.{name}").write_text(f"{text}\n")
        (tmp_path / "cgroup").write_text(own)

    return write


def test_a_limit_counts(group):
    without = memory.available_memory()
    assert without > 2**20
    group(".", "0::/\n", max=5000, current=2000)
    assert memory.available_memory() == 3000
    group(".", "0::/\n", max=5000, current=2000, stat="anon 900\ninactive_file 500")
    assert memory.available_memory() == 3500  # files that are read again when they are needed
    group(".", "0::/\n", max="max")
    assert memory.available_memory() > 2**20


def test_the_least_of_the_own_group_and_those_around_it_counts(group):
    own = "1:name=systemd:/job\n0::/jobs/7/step\n"
    group("jobs/7/step", own, max="max", current=10)
    group("jobs/7", own, max=4000, current=3000)
    group("jobs/8", own, max=5, current=0)
    assert memory.available_memory() == 1000
    group("jobs", own, max=900, current=100)
    assert memory.available_memory() == 800


def test_groups_of_the_first_version(group):
    own = "5:cpu,cpuacct:/other\n4:memory:/job\n0::/\n"
    files = {"usage_in_bytes": 2000, "stat": "inactive_file 1\ntotal_inactive_file 200"}
    group("memory/job", own, limit_in_bytes=2500, **files)
    assert memory.available_memory() == 700
    group("memory", own, limit_in_bytes=600, usage_in_bytes=100)
    assert memory.available_memory() == 500


def test_what_fits_and_what_does_not(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * 10 * 4 * 4 * 3)
    memory.check_memory(10, (4, 4, 3), "this")
    with pytest.raises(InputError, match="this, 11 images of 4 x 4 x 3, needs"):
        memory.check_memory(11, (4, 4, 3), "this")
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    memory.check_memory(11, (4, 4, 3), "this")
