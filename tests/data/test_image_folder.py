"""Image folders: which file is what, decoded exactly, and one line for what is wrong in them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnn_jax.config import Data
from cnn_jax.data.datasets import dataset_spec
from cnn_jax.data.sources import image_file, image_folder
from cnn_jax.errors import InputError
from tests.data.checks import load, refused, same


def _write(path, color, size=(6, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (color, 0, 0)).save(path, "PNG")


@pytest.fixture
def parted(tmp_path):
    """train and test of two classes, four and two images each; red is the image's number."""
    root = tmp_path / "pets"
    for part, count, first in ("train", 4, 0), ("test", 2, 100):
        for index in range(count):
            _write(root / part / "cats" / f"{index}.png", first + index)
            _write(root / part / "dogs" / f"{index}.png", first + 50 + index)
    return root


@pytest.fixture
def tree(tmp_path):
    """One tree of three classes, ten images each."""
    root = tmp_path / "tree"
    for label, name in enumerate(["a", "b", "c"]):
        for index in range(10):
            _write(root / name / f"{index}.png", 10 * label + index)
    return root


def _load(root, **fields):
    return load("image_folder", root, **{"validation_fraction": 0.0} | fields)


def _reds(split):
    return split.images[:, 0, 0, 0].tolist()


def test_train_and_test_by_their_folders(parted):
    data = _load(parted)
    assert data.spec == dataset_spec(Data(name="image_folder", dir=str(parted)))
    assert data.spec.name == "pets" and data.spec.class_names == ("cats", "dogs")
    assert data.spec.image_shape == (6, 6, 3) and not data.spec.synthetic
    assert _reds(data.train) == [0, 1, 2, 3, 50, 51, 52, 53]
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4
    assert (_reds(data.test), data.test.labels.tolist()) == ([100, 101, 150, 151], [0, 0, 1, 1])
    assert data.validation is None and data.skipped == ()


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_validation_by_its_folder_or_carved(name, parted):
    assert len(_load(parted, validation_fraction=0.25).validation) == 2
    for kind in "cats", "dogs":
        _write(parted / name / kind / "x.png", 200)
    data = _load(parted, validation_fraction=0.25)
    assert _reds(data.validation) == [200, 200] and len(data.train) == 8


def test_without_a_test_folder_validation_is_the_test(parted):
    (parted / "test").rename(parted / "val")
    data = _load(parted)
    assert len(data.test) == 4 and data.validation is None


def test_one_tree_is_split_in_balance_and_always_the_same(tree):
    data = _load(tree, test_fraction=0.3)
    assert np.bincount(data.test.labels).tolist() == [3, 3, 3]
    assert sorted(_reds(data.train) + _reds(data.test)) == list(range(30))
    assert _reds(data.test) == _reds(_load(tree, test_fraction=0.3).test)
    os.rename(tree, tree.with_name("elsewhere"))
    assert same(_load(tree.with_name("elsewhere"), test_fraction=0.3).test, data.test)


def test_a_class_called_train_is_a_class(tree):
    (tree / "a").rename(tree / "train")
    assert _load(tree).spec.class_names == ("b", "c", "train")


def test_other_files_are_passed_over_and_folders_below_are_not(parted):
    cats = parted / "train" / "cats"
    for name in "Thumbs.db", ".DS_Store", "notes.txt", "._0.png":
        (cats / name).write_bytes(b"no image")
    (parted / "README.md").touch()
    (parted / "train" / ".cache").mkdir()
    _write(cats / "more" / "UPPER.PNG", 9)
    assert _reds(_load(parted).train)[:5] == [0, 1, 2, 3, 9]


def test_links_to_folders_are_followed_each_folder_once_and_never_upwards(parted, tmp_path):
    cats, elsewhere = parted / "train" / "cats", tmp_path / "elsewhere"
    _write(elsewhere / "8.png", 8)
    (cats / "linked").symlink_to(elsewhere)
    (elsewhere / "again").symlink_to(elsewhere)
    (cats / "itself").symlink_to(cats)
    (cats / "all").symlink_to(parted / "train")
    assert _reds(_load(parted).train)[:5] == [0, 1, 2, 3, 8]


def test_mixed_sizes_need_an_image_size(parted):
    _write(parted / "train" / "dogs" / "9.png", 59, (12, 8))
    message = refused("image_folder", parted)
    assert "dogs/9.png is 8 x 12, but the first image is 6 x 6" in message
    assert "data.image_size" in message
    data = _load(parted, image_size=4, channels=1)
    assert data.train.images.shape == (9, 4, 4, 1) and data.spec.image_shape == (4, 4, 1)


def test_the_second_load_decodes_nothing_unless_a_file_is_new(parted, monkeypatch):
    first = _load(parted)
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "_decode", None)
        assert same(_load(parted).train, first.train)
    _write(parted / "train" / "dogs" / "9.png", 59)
    assert len(_load(parted).train) == 9
    assert _load(parted, image_size=3).train.images.shape[1] == 3


def test_labels_from_the_cache_follow_the_classes_of_train(parted):
    assert _load(parted).test.labels.tolist() == [0, 0, 1, 1]
    _write(parted / "train" / "birds" / "0.png", 200)
    assert _load(parted).test.labels.tolist() == [1, 1, 2, 2]


def test_a_file_that_could_not_be_read_once_is_tried_again(parted, monkeypatch):
    def failing(path):
        if str(path).endswith("cats/0.png"):
            raise image_file.UnreadFile("can't be read (Input/output error)")
        return image_file.read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "read_bytes", failing)
        assert len(_load(parted, on_bad_example="skip", image_size=6).skipped) == 2
    assert _load(parted, on_bad_example="skip", image_size=6).skipped == ()


def test_a_file_that_has_another_size_when_it_is_streamed_is_named(parted):
    data = _load(parted, feed="streaming")
    _write(parted / "train" / "cats" / "1.png", 1, (5, 7))
    with pytest.raises(InputError, match=r"cats/1.png is 7 x 5 now and was 6 x 6 when training"):
        data.train.images[:2]


def _damage(path):
    """Replaces an image by one of noise that breaks off."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-2000])


def test_a_bad_file_is_named(parted):
    _damage(parted / "train" / "dogs" / "1.png")
    (parted / "train" / "dogs" / "2.png").write_bytes(b"")
    message = refused("image_folder", parted)
    assert "train/dogs/1.png is corrupt or truncated" in message
    assert "data.on_bad_example=skip" in message


def test_or_skipped_counted_and_listed(parted, capsys):
    _damage(parted / "train" / "cats" / "0.png")
    (parted / "test" / "dogs" / "0.png").write_bytes(b"no image")
    for _ in "decoded", "from the cache":
        data = _load(parted, on_bad_example="skip")
        assert _reds(data.train) == [1, 2, 3, 50, 51, 52, 53]
        assert _reds(data.test) == [100, 101, 151]
        assert data.train.labels.tolist() == [0] * 3 + [1] * 4
        first, second = data.skipped
        assert first.startswith("train/cats/0.png is corrupt")
        assert second == "test/dogs/0.png is no image, or not in a format that Pillow reads"
        assert "warning: 2 bad files" in capsys.readouterr().err
    assert "is corrupt" in refused("image_folder", parted)  # the cache doesn't hide it


def test_a_broken_link_is_a_bad_file_until_it_is_whole(parted):
    (parted / "train" / "cats" / "9.png").symlink_to("nowhere")
    problem = "train/cats/9.png can't be read (No such file or directory)"
    assert f"{problem}; repair or delete it" in refused("image_folder", parted)
    for _ in "decoded", "from the cache":
        assert _load(parted, on_bad_example="skip").skipped == (problem,)
    _write(parted / "train" / "cats" / "nowhere", 9)
    assert len(_load(parted, on_bad_example="skip").train) == 9


def test_a_bad_file_whose_name_is_no_text(parted):
    (parted / "train" / "cats" / os.fsdecode(b"\xff.png")).write_bytes(b"junk")
    (problem,) = _load(parted, on_bad_example="skip").skipped
    assert problem.startswith("train/cats/\ufffd.png is no image")


def test_all_of_a_class_skipped(tree):
    for path in (tree / "b").iterdir():
        path.write_bytes(b"")
    message = refused("image_folder", tree, on_bad_example="skip")
    assert "no image of class b (all) can be read" in message


def test_no_file_readable_at_all(tree):
    for path in tree.glob("*/*.png"):
        path.write_bytes(b"")
    assert "none of its 30" in refused("image_folder", tree, on_bad_example="skip")


def test_duplicates_in_train_and_test_are_counted(parted, tree, capsys):
    (parted / "test" / "cats" / "7.png").write_bytes(
        (parted / "train" / "dogs" / "3.png").read_bytes()
    )
    _load(parted)
    err = capsys.readouterr().err
    assert "warning: 1 test files" in err and "test/cats/7.png (train/dogs/3.png)" in err
    for path in (tree / "c").iterdir():
        _write(path, 99)
    _load(tree)
    assert "warning: 2 test files" in capsys.readouterr().err
    _load(parted, test_fraction=0.2)
    (parted / "test" / "cats" / "7.png").unlink()
    capsys.readouterr()
    _load(parted)
    assert capsys.readouterr().err == ""


def _empty_class(root):
    (root / "train" / "birds").mkdir()


def _empty_test_class(root):
    for path in (root / "test" / "dogs").iterdir():
        path.unlink()


def _one_class(root):
    (root / "train" / "dogs").rename(root / "dogs")


def _unknown_class(root):
    _write(root / "test" / "dog" / "0.png", 0)


def _class_that_is_no_text(root):
    (root / "train" / "dogs").rename(root / "train" / os.fsdecode(b"\xff"))


def _no_test(root):
    (root / "test").rename(root / "tests")


def _no_classes_in_test(root):
    for kind in "cats", "dogs":
        (root / "test" / kind).rename(root / kind)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_empty_class, "train/birds holds no image"),
        (_empty_test_class, "test/dogs holds no image"),
        (_one_class, "train has 1 class folders; at least two"),
        (_unknown_class, "test/dog is no class of train, which has cats, dogs"),
        (_class_that_is_no_text, r"train: the class name '\udcff' is no valid text"),
        (_no_test, "has a folder train but none called test"),
        (_no_classes_in_test, "test holds no class folders"),
    ],
)
def test_folders_that_cannot_be(change, words, parted):
    change(parted)
    for function in dataset_spec, image_folder.load:
        assert words in refused("image_folder", parted, by=function)


def test_places_that_cannot_be(tmp_path):
    assert "data.dir must say which" in refused("image_folder")
    assert f"no folder {tmp_path / 'x'}" in refused("image_folder", tmp_path / "x")
    assert "has 0 class folders" in refused("image_folder", tmp_path)


def test_a_fraction_that_leaves_nothing(tree):
    assert "leaves one part empty" in refused("image_folder", tree, test_fraction=0.0)


def test_what_does_not_fit_into_memory_is_not_begun(parted, monkeypatch):
    monkeypatch.setattr("cnn_jax.data.sources.memory.available_memory", lambda: 1000)
    monkeypatch.setattr(image_folder, "_decode", None)
    assert f"{parted}, 12 images of 6 x 6 x 3, needs" in refused(
        "image_folder", parted, feed="resident"
    )


def test_a_relative_folder(parted, monkeypatch):
    monkeypatch.chdir(parted.parent)
    assert len(_load(Path(parted.name)).train) == 8


def test_the_config_can_say_what_the_folder_must_hold(tmp_path):
    facts = dataset_spec(Data(name="image_folder", class_names=("cats", "dogs"), image_size=150))
    assert (facts.image_shape, facts.class_names) == ((150, 150, 3), ("cats", "dogs"))
    swapped = Data(name="image_folder", class_names=("dogs", "cats"), image_size=150)
    assert dataset_spec(swapped) == facts  # in the order of the folders
    for folder in ("train/cats", "train/cows", "test/cats", "test/cows"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "0.png")
    data = Data(name="image_folder", dir=str(tmp_path), class_names=("cats", "dogs"), image_size=8)
    with pytest.raises(InputError, match=r"has the classes cats, cows; .* wants cats, dogs"):
        dataset_spec(data)


@pytest.mark.parametrize("names", [("cats",), ("cats", "dogs", "cats")])
def test_classes_that_no_folder_could_have(names):
    message = refused("image_folder", by=dataset_spec, class_names=names, image_size=150)
    assert f"data.class_names are {', '.join(names)}; they must be two or more different" in message
