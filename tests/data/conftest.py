"""Every test of data has directories of its own, and no network."""

import pytest

from tests.data.fakes import prepare_fake


@pytest.fixture(autouse=True)
def _own_directories(tmp_path, monkeypatch):
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CNN_JAX_OFFLINE", "1")
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data directory with a tiny cifar10 in it."""
    data_dir = tmp_path_factory.mktemp("tfds")
    prepare_fake("cifar10", data_dir)
    return data_dir
