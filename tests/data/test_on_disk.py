"""Images left on disk: the same examples, constants and refusals as of those in memory."""

import pickle
import shutil
from functools import partial

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cnn_jax.config import NORMALIZATIONS, Augment, Data
from cnn_jax.data.cropping import central_part, random_part
from cnn_jax.data.normalization import fit_normalization
from cnn_jax.data.on_disk import ImagesOnDisk
from cnn_jax.data.sources import image_folder, memory, tfds_source
from cnn_jax.errors import InputError
from tests.data.checks import load, refused
from tests.data.fakes import prepare_imagenet, write_dataset


def _folder(root):
    rng = np.random.default_rng(0)
    for part, count in ("train", 9), ("test", 3):
        for name in "cats", "dogs":
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (*rng.integers(9, 40, 2), 3), np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.jpg")
    return root


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Sources whose images can stay on disk: what is to be loaded, and how."""
    imagenet, folder = (tmp_path_factory.mktemp(name) for name in ("imagenet", "folder"))
    prepare_imagenet(imagenet, train=20)
    return {"imagenet2012": imagenet, "image_folder": _folder(folder / "pets")}


@pytest.fixture(params=["imagenet2012", "image_folder"])
def both(request, places):
    """The same dataset on disk and in memory."""
    options = {"image_size": 8, "validation_fraction": 0.25}
    name, place = request.param, places[request.param]
    return [load(name, place, feed=feed, **options) for feed in ("streaming", "resident")]


def test_the_same_examples_in_the_same_splits(both):
    on_disk, resident = both
    assert (on_disk.feed, resident.feed) == ("streaming", "resident")
    assert on_disk.spec == resident.spec
    for part in "train", "validation", "test":
        one, other = getattr(on_disk, part), getattr(resident, part)
        assert isinstance(one.images, ImagesOnDisk)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert (one.images.shape, one.images.size) == (other.images.shape, other.images.size)
        np.testing.assert_array_equal(one.images[:], other.images)
        some = np.array([2, 0, 2])
        np.testing.assert_array_equal(one.images[some], other.images[some])
        again = pickle.loads(pickle.dumps(one.images))
        np.testing.assert_array_equal(again[some], other.images[some])


def test_parts_are_cut_from_the_whole_files(both, places):
    on_disk, _ = both
    images, which = on_disk.train.images, np.array([4, 0])
    parts = [partial(central_part, share=0.5), partial(random_part, key=(0, 0, 1), area=0.1)]
    found = images.parts(which, parts)
    for image, number, part in zip(found, which, parts, strict=True):
        whole = images.parts(np.array([number]), [_Whole()])[0]
        assert whole.shape == (8, 8, 3) and not np.array_equal(image, whole)
        alone = pickle.loads(pickle.dumps(images)).parts(np.array([number]), [part])
        np.testing.assert_array_equal(alone[0], image)
    usual = images.parts(which, [central_part] * 2)
    np.testing.assert_array_equal(usual, images[which])


class _Whole:
    """All of a photograph, whatever its aspect."""

    def __call__(self, shape, target):
        return 0, 0, shape[1], shape[0]


@pytest.mark.parametrize("name", ["imagenet2012", "image_folder"])
@pytest.mark.parametrize("feed", ["streaming", "resident"])
def test_a_margin_around_the_centre_is_left_out_of_all_images(name, feed, places):
    options = {"image_size": 8, "validation_fraction": 0.25}
    plain = load(name, places[name], feed="streaming", **options)
    data = load(name, places[name], feed=feed, center_crop=0.5, **options)
    part = partial(central_part, share=0.5)
    for split in "train", "validation", "test":
        images = getattr(plain, split).images
        expected = images.parts(np.arange(len(images)), [part] * len(images))
        np.testing.assert_array_equal(getattr(data, split).images[:], expected)


def test_files_that_are_cropped_are_streamed(places):
    options = {"image_size": 8, "augment": Augment(resized_crop=0.08)}
    data = load("image_folder", places["image_folder"], crop_files=True, **options)
    assert data.feed == "streaming"
    assert load("image_folder", places["image_folder"], **options).feed == "resident"


@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_the_same_constants_from_the_training_split_alone(kind, both):
    one, other = (vars(fit_normalization(data.train.images, kind)) for data in both)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("name", ["imagenet2012", "image_folder"])
def test_each_image_is_checked_once_ever(name, places, monkeypatch):
    options = {"feed": "streaming", "image_size": 8}
    first = load(name, places[name], **options)
    monkeypatch.setattr(image_folder, "_decode", None)
    monkeypatch.setattr(tfds_source, "_decode", None)
    again = load(name, places[name], **options)
    np.testing.assert_array_equal(first.train.images.sums, again.train.images.sums)
    np.testing.assert_array_equal(first.train.labels, again.train.labels)


def test_a_file_that_is_lost_later_is_named(places, tmp_path):
    folder = tmp_path / "pets"
    shutil.copytree(places["image_folder"], folder)
    data = load("image_folder", folder, feed="streaming", image_size=8)
    (folder / "test" / "dogs" / "1.jpg").unlink()
    with pytest.raises(InputError, match=r"dogs/1.jpg can't be read .*when training began"):
        data.test.images[:]


def test_a_bad_file_is_found_before_training_or_skipped(places, tmp_path, capsys):
    folder = tmp_path / "pets"
    shutil.copytree(places["image_folder"], folder)
    (folder / "train" / "dogs" / "1.jpg").write_bytes(b"")
    shutil.copy(folder / "train" / "cats" / "0.jpg", folder / "test" / "cats" / "9.jpg")
    options = {"feed": "streaming", "image_size": 8, "validation_fraction": 0.0}
    assert "dogs/1.jpg is empty" in refused("image_folder", folder, **options)
    data = load("image_folder", folder, on_bad_example="skip", **options)
    assert data.skipped == ("train/dogs/1.jpg is empty",)
    assert "1 test files" in capsys.readouterr().err
    whole = load("image_folder", folder, on_bad_example="skip", **options | {"feed": "resident"})
    np.testing.assert_array_equal(data.train.images[:], whole.train.images)


@pytest.mark.parametrize("labels", [[0, -1], [0, 2]])
def test_labels_out_of_range_are_found_before_training(labels, tmp_path):
    image, label = tfds.features.Tensor(shape=(2, 2, 1), dtype=np.uint8), tfds.features.ClassLabel
    features = tfds.features.FeaturesDict({"image": image, "label": label(num_classes=3)})
    examples = [{"image": np.zeros((2, 2, 1), np.uint8), "label": each} for each in labels]
    home = write_dataset(
        "toy", tmp_path, features=features, splits={"train": examples, "test": examples}
    )
    description = home / "features.json"
    description.write_text(
        description.read_text().replace('"numClasses": "3"', '"numClasses": "2"')
    )
    words = f"labels from {min(labels)} to {max(labels)}"
    assert words in refused("toy", tmp_path, feed="streaming", validation_fraction=0.0)


@pytest.mark.parametrize(
    ("feed", "known", "host", "chosen"),
    [
        ("auto", 1200, 10**6, "resident"),
        ("auto", 1199, 10**6, "streaming"),
        ("auto", 10**6, 2 * 480 - 1, "streaming"),
        ("auto", None, None, "resident"),
        ("streaming", 10**6, 10**6, "streaming"),
        ("resident", 10, 10**6, "resident"),
    ],
)
def test_the_feed_goes_by_size_or_as_told(feed, known, host, chosen, monkeypatch):
    """Ten images of 48 bytes are 0.4 of 1,200; loading them takes twice as much of the host."""
    monkeypatch.setattr(memory, "available_memory", lambda: host)
    assert memory.choose_feed(Data(feed=feed), 10, (4, 4, 3), "this", memory=known) == chosen
