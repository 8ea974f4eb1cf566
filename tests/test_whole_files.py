"""Files appear whole, or stay as they were."""

import os

import pytest

from cnn_jax.whole_files import write_text


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    write_text(path, "newer\r\n")
    assert path.read_bytes() == b"newer\r\n"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_keeps_the_old_file_alone(tmp_path, monkeypatch, broken):
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(os, broken, fail)
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
