"""Each worker has devices or cores of its own."""

import os

import pytest

from launch import devices
from launch.command_line import LaunchError
from launch.devices import Place, places


def test_gpus_are_divided_and_not_more_workers_than_there_are(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7,9")
    visible = [place.environment["CUDA_VISIBLE_DEVICES"] for place in places(2)]
    assert visible == ["3,5", "7,9"]
    with pytest.raises(LaunchError, match="--workers=5, but there are 4 GPUs here"):
        places(5)


def test_workers_that_share_a_gpu_share_its_memory(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for place in places(3, share=True):
        assert place.environment["CUDA_VISIBLE_DEVICES"] == "0"
        assert float(place.environment["XLA_PYTHON_CLIENT_MEM_FRACTION"]) == 0.3


def test_tpu_chips_are_divided(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = lambda folder, pattern: ["0", "1"] if "accel" in pattern else []
    monkeypatch.setattr(devices, "_numbered", found)
    each = [place.environment for place in places(2)]
    assert [environment["TPU_VISIBLE_CHIPS"] for environment in each] == ["0", "1"]
    assert each[0]["TPU_CHIPS_PER_PROCESS_BOUNDS"] == "1,1,1"


def test_cores_are_divided_and_thread_pools_fit(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 4, 5})
    first, second = places(2)
    assert (first.cpus, second.cpus) == ([0, 1], [4, 5])
    assert first.environment["OMP_NUM_THREADS"] == "2"
    with pytest.raises(LaunchError, match="there are 4 cores here; take --workers=4"):
        places(5)


def test_a_single_worker_has_everything():
    assert places(1) == [Place()]
