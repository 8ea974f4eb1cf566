import io
import os
import queue
import threading

import numpy as np
import pytest

from cnn_jax.data.decoding import decoded_batches, find_images
from cnn_jax.data.sources.image_file import BadImage
from cnn_jax.errors import InputError


def _number(content):
    if content == b"bad":
        raise BadImage("is no image")
    return np.full((1, 1, 1), int(content), np.uint8)


@pytest.fixture
def files(tmp_path):
    for i in range(20):
        (tmp_path / f"{i:02}.png").write_bytes(b"bad" if i == 7 else str(i).encode())
    return sorted(tmp_path.iterdir())


def test_files_come_in_order_whatever_is_wrong_with_some(files):
    paths = [*files, files[0].parent / "missing.png", files[0].parent]
    batches = [*decoded_batches(paths, _number, size=4, threads=3)]
    assert all(1 <= len(batch) <= 4 for batch in batches)
    found = [each for batch in batches for each in batch]
    assert [each.path for each in found] == paths
    pixels = [None if each.pixels is None else each.pixels.item() for each in found]
    assert pixels == [i if i != 7 else None for i in range(20)] + [None, None]
    problems = [each.problem for each in found if each.problem]
    assert problems == [
        "is no image",
        "can't be read (No such file or directory)",
        "is a folder that holds no image files",
    ]


def test_a_path_is_served_before_the_next_is_known(files):
    given = queue.Queue()
    batches = decoded_batches(iter(given.get, None), _number, size=8)
    for i in (3, 5):
        given.put(files[i])
        assert [each.pixels.item() for each in next(batches)] == [i]
    given.put(None)
    assert [*batches] == []


def test_an_error_of_the_paths_arrives(files):
    def broken():
        yield files[0]
        raise PermissionError("locked")

    with pytest.raises(PermissionError, match="locked"):
        [*decoded_batches(broken(), _number, size=2)]


def test_one_who_stops_early_leaves_no_thread_decoding(files):
    before = set(threading.enumerate())
    batches = decoded_batches(files, _number, size=1, threads=2)
    next(batches)
    batches.close()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(10)
            assert not thread.is_alive()


def test_folders_are_searched_and_stdin_read(tmp_path, monkeypatch):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name in ("deep/b.png", "deep/er/a.JPG", "deep/notes.txt", "single.odd"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    lines = b"single.odd\n\n-\n  deep/er\r\n\xff.png"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines), "utf-8", "strict"))
    found = [path.as_posix() for path in find_images(["deep", "empty", "-", "none.png"])]
    wanted = ["deep/b.png", "deep/er/a.JPG", "empty", "single.odd", "deep/er/a.JPG"]
    assert found == [*wanted, os.fsdecode(b"\xff.png"), "none.png"]


def test_an_empty_name_is_not_the_folder_one_is_in():
    with pytest.raises(InputError, match="the name of an image is empty"):
        list(find_images(["a.png", ""]))
