"""Arrays in a .npz file: every layout of keys, and one line for what an array should not be."""

import lzma
import re
import zipfile
import zlib

import numpy as np
import pytest

from cnn_jax.config import Data
from cnn_jax.data.datasets import dataset_spec
from cnn_jax.data.sources import array_file
from cnn_jax.errors import InputError
from tests.data.checks import load, refused

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), np.uint8)
LABELS = np.arange(20) % 4


@pytest.fixture
def file(tmp_path):
    """Writes arrays to a file; returns its path."""

    def write(**arrays):
        path = tmp_path / "mine.npz"
        np.savez(path, **arrays)
        return path

    return write


def _load(path, **fields):
    return load("npz", path, **{"validation_fraction": 0.0} | fields)


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y")])
def test_one_set_is_split_in_balance(keys, file):
    path = file(**dict(zip(keys, (IMAGES, LABELS.astype(np.uint8)), strict=True)))
    data = _load(path, test_fraction=0.2)
    assert data.spec == dataset_spec(Data(name="npz", dir=str(path)))
    assert data.spec.name == "mine" and data.spec.class_names == ("0", "1", "2", "3")
    assert np.bincount(data.test.labels).tolist() == [1] * 4 and len(data.train) == 16
    places = {image.tobytes(): i for i, image in enumerate(IMAGES)}
    for split in data.train, data.test:
        found = [places[image.tobytes()] for image in split.images]
        assert split.labels.tolist() == LABELS[found].tolist() and found == sorted(found)


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels", "val_images", "val_labels"),
        ("x_train", "y_train", "x_test", "y_test", "x_val", "y_val"),
    ],
)
def test_several_sets_are_kept(names, file):
    parts = [IMAGES[:10], LABELS[:10, None], IMAGES[10:16], LABELS[10:16], IMAGES[16:], LABELS[16:]]
    data = _load(file(**dict(zip(names, parts, strict=False))))
    np.testing.assert_array_equal(data.train.images, IMAGES[:10])
    np.testing.assert_array_equal(data.train.labels, LABELS[:10])
    np.testing.assert_array_equal(data.test.images, IMAGES[10:16])
    if len(names) == 6:
        np.testing.assert_array_equal(data.validation.images, IMAGES[16:])
    else:
        assert data.validation is None


@pytest.mark.parametrize("channels", [0, 1, 7])
def test_gray_and_many_channels(channels, file):
    images = IMAGES[..., :1].repeat(channels, 3) if channels else IMAGES[..., 0]
    data = _load(file(images=images, labels=LABELS))
    assert data.spec.image_shape == (4, 5, max(channels, 1))
    assert data.train.images.shape == (16, 4, 5, max(channels, 1))


def test_compressed_and_with_names(tmp_path):
    names = np.array(["ant", "bee", "cow", "dog", "eel"])
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, images=IMAGES, labels=LABELS, class_names=names)
    assert _load(path).spec.class_names == tuple(names)


SEVERAL = (np.arange(20)[:, None] >> np.arange(3)) & 1  # every combination of three labels


def test_several_labels_an_image(file):
    path = file(images=IMAGES, labels=SEVERAL.astype(bool))
    data = _load(path, test_fraction=0.5)
    assert data.spec == dataset_spec(Data(name="npz", dir=str(path)))
    assert data.spec.multi_label and data.spec.class_names == ("0", "1", "2")
    places = {image.tobytes(): i for i, image in enumerate(IMAGES)}
    for split in data.train, data.test:
        found = [places[image.tobytes()] for image in split.images]
        np.testing.assert_array_equal(split.labels, SEVERAL[found].astype(np.uint8), strict=True)
    assert len(np.unique(data.test.labels, axis=0)) == 8  # each combination
    assert not _load(file(images=IMAGES, labels=LABELS)).spec.multi_label


def test_the_spec_reads_no_image(file, monkeypatch):
    path = file(images=IMAGES, labels=LABELS)
    monkeypatch.setattr(array_file._File, "images", None)
    assert dataset_spec(Data(name="npz", dir=str(path))).image_shape == (4, 5, 3)


NAN = np.where(IMAGES.max() == IMAGES, np.nan, IMAGES.astype(np.float32))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": (IMAGES / 255).astype("f4")}, r"float32, not uint8; .*images \* 255\)"),
        ({"images": IMAGES.astype("f8")}, r"float64, .*np.rint\(images\).astype\(np.uint8\)"),
        ({"images": IMAGES.astype("i8")}, r"int64, not uint8; its pixels go from 0 to 255"),
        ({"images": IMAGES.astype("i8") - 9}, "from -9 to 246; scale them"),
        ({"images": NAN}, r"\d+ of its pixels are NaN"),
        ({"images": IMAGES > 9}, r"bool, .*astype\(np.uint8\) \* 255"),
        ({"images": IMAGES.astype(str)}, "pixels must be whole numbers"),
        ({"images": IMAGES[:, 0, 0]}, "shape 20 x 3; it must be N x H x W"),
        ({"images": np.zeros((20, 3, 8, 8), "u1")}, "channels first; .*moveaxis"),
        ({"images": np.zeros((20, 0, 8, 3), "u1")}, "shape 20 x 0 x 8 x 3"),
        ({"labels": LABELS[:19]}, "labels have shape 19 and images 20 x 4"),
        ({"labels": np.eye(4, dtype=int)[LABELS]}, r"one-hot .*argmax\(1\)"),
        ({"labels": SEVERAL * 2}, "a column for each class, and hold 2; they must be 0 or 1"),
        ({"labels": SEVERAL[:19]}, "labels have shape 19 x 3 and images 20 x 4"),
        ({"labels": SEVERAL, "class_names": np.array(list("abcd"))}, "3 columns .* 4 class_names"),
        ({"labels": LABELS / 1}, r"labels are float64; .*astype\(int\)"),
        ({"labels": LABELS - 1}, "labels has a label -1; labels count from 0"),
        ({"labels": LABELS * 0}, "one class only"),
        ({"labels": LABELS.astype("u8") + 2**32}, "has a label 42949672"),
        ({"labels": np.array([None] * 20)}, "labels are object"),
        ({"class_names": np.array(["a", "b"])}, "a label 3, but 2 class_names; .*0 to 1"),
        ({"class_names": np.array(["a", "b", "c", "\udcff"])}, r"name '\\udcff' is no valid text"),
        ({"images": np.uint8(3), "labels": np.int64(1)}, r"shape \(\) and images \(\);"),
        ({"images": np.uint8(3)}, r"labels have shape 20 and images \(\)"),
        ({"labels": LABELS * 10**6}, r"a label 3000000, but 20 images; .*np.unique\(labels, ret"),
        ({"class_names": np.array(["a", "b", "b", "c"])}, "class_names holds 'b' 2 times; they"),
        ({"class_names": np.array(["a", "b", " ", "c"])}, "class_names holds a blank; each"),
        ({"class_names": np.arange(4)}, "class_names must be a list of strings"),
        ({"x_train": IMAGES, "y_train": LABELS}, "holds images, labels, x_train"),
        ({"x": IMAGES, "y": LABELS}, "holds images, labels, x, y"),
    ],
)
def test_arrays_that_cannot_be(change, words, file):
    path = file(**{"images": IMAGES, "labels": LABELS} | change)
    message = refused("npz", path)
    assert re.search(words, message) and str(path) in message


def test_sets_that_do_not_fit(file):
    path = file(x_train=IMAGES, y_train=LABELS, x_test=IMAGES[..., :1], y_test=LABELS)
    assert "train 4 x 5 x 3, test 4 x 5 x 1" in refused("npz", path)
    assert "holds x_train, y_train; it should" in refused(
        "npz", file(x_train=IMAGES, y_train=LABELS)
    )
    both = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS}
    for more in ({"val_images": IMAGES}, {"test_images": IMAGES, "test_labels": LABELS}):
        listed = ", ".join(both | more)
        assert f"holds {listed}; it should" in refused("npz", file(**both, **more))
    sets = {"x_train": IMAGES, "y_train": SEVERAL, "x_test": IMAGES, "y_test": LABELS}
    assert "labels of its sets differ in shape: train 20 x 3, test 20" in refused(
        "npz", file(**sets)
    )
    assert "holds no images" in refused("npz", file(images=IMAGES[:0], labels=LABELS[:0]))
    assert "holds nothing" in refused("npz", file())


def test_files_that_cannot_be(file, tmp_path):
    assert "must say which file" in refused("npz")
    assert "there is no file" in refused("npz", tmp_path / "x.npz")
    path = file(images=IMAGES, labels=LABELS)
    path.write_bytes(path.read_bytes()[:-40])
    assert "is no whole .npz file" in refused("npz", path)
    np.save(tmp_path / "x.npy", IMAGES)
    assert "is no whole .npz file" in refused("npz", tmp_path / "x.npy")


def test_a_flipped_bit_is_found(file):
    path = file(images=IMAGES.repeat(20, axis=0), labels=LABELS.repeat(20))
    content = bytearray(path.read_bytes())
    content[20_000] ^= 1
    path.write_bytes(content)
    assert f"{path}: images can't be read" in refused("npz", path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_whatever_byte_is_damaged_it_is_one_line_or_no_matter(packing, tmp_path):
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, array in {"x": IMAGES, "y": LABELS}.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.save(file, array)
    whole, reasons = path.read_bytes(), set()
    for place in range(archive.getinfo("y.npy").header_offset, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            assert _load(path).spec.image_shape == (4, 5, 3)
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            reasons.add(type(error.__cause__))
    expected = {zipfile.ZIP_DEFLATED: zlib.error, zipfile.ZIP_LZMA: lzma.LZMAError}
    # An unknown compression, a member that seems to be encrypted, and a wrong checksum.
    assert reasons >= {NotImplementedError, RuntimeError, expected.get(packing, zipfile.BadZipFile)}


def test_what_does_not_fit_into_memory_is_not_begun(file, monkeypatch):
    path = file(images=IMAGES, labels=LABELS)
    monkeypatch.setattr("cnn_jax.data.sources.memory.available_memory", lambda: 1000)
    monkeypatch.setattr(array_file._File, "images", None)
    assert "20 images of 4 x 5 x 3, needs" in refused("npz", path)
