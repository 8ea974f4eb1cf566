"""The cache of decoded images: used, rebuilt when damaged or outdated, and never half-written."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cnn_jax.data.sources import tfds_source
from cnn_jax.data.sources.cache import cache_dir, read_cache, write_cache
from tests.data.checks import load, same
from tests.data.fakes import prepare_fake


def _only_cache_file(tmp_path, split="train"):
    (path,) = (tmp_path / "cache" / "datasets" / "cifar10" / "3.0.2").glob(f"{split}-*.npz")
    return path


def test_the_second_load_decodes_nothing(prepared, monkeypatch):
    first = load("cifar10", prepared)
    monkeypatch.setattr(tfds_source, "_decode", None)
    second = load("cifar10", prepared)
    assert same(first.train, second.train) and same(first.test, second.test)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-500])


def _flip_a_pixel(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _other_size(path):
    np.savez(path, images=np.zeros((3, 32, 32, 3), np.uint8), labels=np.zeros(3, np.int32))


def _other_type(path):
    np.savez(path, images=np.zeros((40, 32, 32, 3)), labels=np.zeros(40, np.int32))


def _no_labels(path):
    np.savez(path, images=np.zeros((40, 32, 32, 3), np.uint8))


def _no_archive(path):
    path.write_bytes(b"nothing of the kind")


def _empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage",
    [_truncate, _flip_a_pixel, _other_size, _other_type, _no_labels, _no_archive, _empty],
)
def test_a_damaged_cache_is_rebuilt(damage, prepared, tmp_path):
    first = load("cifar10", prepared)
    path = _only_cache_file(tmp_path)
    damage(path)
    assert same(load("cifar10", prepared).train, first.train)
    with np.load(path) as arrays:
        assert arrays["images"].shape == (40, 32, 32, 3)


def test_whatever_byte_is_damaged_it_is_found_or_no_matter(tmp_path):
    path, array = tmp_path / "x.npz", np.arange(3)
    write_cache(path, x=array)
    whole, found = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        arrays = read_cache(path)
        found += arrays is None
        assert arrays is None or all(np.array_equal(each, array) for each in arrays.values())
    assert found > len(whole) / 2


def test_a_new_preparation_is_read_anew(tmp_path):
    home = prepare_fake("cifar10", tmp_path / "data", train=30)
    assert len(load("cifar10", tmp_path / "data").train) == 27
    first = load("cifar10", tmp_path / "data").test
    shutil.rmtree(home)
    prepare_fake("cifar10", tmp_path / "data", train=50)
    second = load("cifar10", tmp_path / "data")
    assert len(second.train) == 45 and not same(first, second.test)


def test_without_a_place_to_write_there_is_no_cache(prepared, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path / "file"))
    assert len(load("cifar10", prepared).train) == 36


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_nothing(error, prepared, tmp_path, monkeypatch):
    def half(file, **arrays):
        file.write(b"PK")
        raise error

    monkeypatch.setattr(np, "savez", half)
    if isinstance(error, OSError):
        assert len(load("cifar10", prepared).train) == 36
    else:
        with pytest.raises(KeyboardInterrupt):
            load("cifar10", prepared)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CNN_JAX_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"CNN_JAX_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/cnn_jax"),
        ({"CNN_JAX_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/cnn_jax"),
    ],
)
def test_cache_dir(variables, expected, monkeypatch):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert cache_dir() == Path(expected)
