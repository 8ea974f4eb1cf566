import numpy as np
import pytest
from PIL import Image

from cnn_jax.analysis.augmentation import (
    augmentation_sheet,
    augmented,
    file_crops,
    first_classes,
)
from cnn_jax.analysis.figures import contact_sheet
from cnn_jax.config import Augment, Data
from cnn_jax.data.datasets import load_dataset
from cnn_jax.data.streaming import train_batches
from cnn_jax.errors import InputError
from tests.data.image_checks import pixels


def test_images_are_enlarged_pixel_by_pixel_in_their_order():
    images = pixels(3, 8, 8, 3)
    sheet = contact_sheet([("", images[:2]), ("", images[2:])], tile=16)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (3 + 2 * 19, 6 + 2 * 19, 3)
    for image, y, x in zip(images, (3, 3, 22), (6, 25, 6), strict=True):
        np.testing.assert_array_equal(sheet[y : y + 16 : 2, x : x + 16 : 2], image)
        np.testing.assert_array_equal(sheet[y + 1 : y + 16 : 2, x + 1 : x + 16 : 2], image)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_are_shown_as_their_mean_and_floats_are_cut_off(channels):
    image = np.zeros((1, 4, 4, channels), np.float32)
    image[:, :2] = 7
    image[0, 0, 0] = np.nan
    sheet = contact_sheet([("", image)], tile=4)
    np.testing.assert_array_equal(sheet[3:7, 6:10, 0], 255 * (image[0, :, :, 0] == 7))
    np.testing.assert_array_equal(sheet[..., 0], sheet[..., 2])


def test_a_large_or_oblong_image_fits_its_tile():
    sheet = contact_sheet([("", np.full((1, 200, 100, 3), 9, np.uint8))], tile=40)
    assert sheet.shape == (3 + 43, 6 + 43, 3)
    np.testing.assert_array_equal(np.ptp(np.argwhere(sheet[..., 0] == 9), axis=0), [39, 19])


def test_captions_and_headings_have_room():
    images = np.full((1, 8, 8, 3), 255, np.uint8)
    sheet = contact_sheet([("a long caption", images)], columns=["heading"], tile=64)
    dark = np.argwhere(sheet.max(axis=-1) < 100)
    assert len(dark) > 50
    assert dark[:, 0].max() < sheet.shape[0] - 1
    left = sheet.shape[1] - 64 - 3
    assert set(dark[:, 1] < left) == {
        True,
        False,
    }  # the caption beside the image, the heading above


def test_a_sheet_has_a_block_for_each_change_and_one_for_all():
    images, labels = pixels(4, 8, 8, 3), np.arange(4)
    one = augmentation_sheet(Augment(flip=True), images, labels, shown=2, draws=3)
    two = augmentation_sheet(Augment(flip=True, mixup=0.2), images, labels, shown=2, draws=3)
    pitch = 64 + 3
    assert (one.shape[0] - two.shape[0]) == -2 * 2 * pitch
    first_row = one[-2 * pitch : -pitch, -4 * pitch :].reshape(pitch, 4, pitch, 3)[:64, :, :64]
    original, *changed = np.moveaxis(first_row[4::8, :, 4::8], 1, 0)
    np.testing.assert_array_equal(original, images[0])
    for draw in changed:
        assert (draw == original).all() or (draw == original[:, ::-1]).all()
    again = augmentation_sheet(Augment(flip=True), images, labels, shown=2, draws=3)
    np.testing.assert_array_equal(again, one)


def test_crops_of_files_are_shown_as_training_cuts_them(tmp_path):
    photographs = [tmp_path / "train" / f"{i % 2}" / f"{i}.png" for i in range(4)]
    photographs += [tmp_path / "test" / f"{i}" / "a.png" for i in range(2)]
    for number, path in enumerate(photographs):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(40, 60 + number, 3)).save(path)
    augment = Augment(resized_crop=0.2, flip=True)
    data = Data("image_folder", str(tmp_path), image_size=8, validation_fraction=0.0)
    data.crop_files, data.augment = True, augment
    train, which = load_dataset(data).train, np.array([2, 0])
    crops = file_crops(data, train.images, which, seed=5, draws=2)
    sizes = {"batch_size": len(train), "start": 0, "stop": 2}  # a batch is an epoch
    for batch, drawn in zip(train_batches(train, seed=5, crop=0.2, **sizes), crops, strict=True):
        places = [batch["index"].tolist().index(number) for number in which]
        np.testing.assert_array_equal(batch["image"][places], drawn)
    rest = (train.images[which], train.labels[which])
    alone = augmented(Augment(resized_crop=0.2), *rest, crops=crops, draws=2)
    np.testing.assert_allclose(alone, crops / 255, rtol=1e-6)
    flipped = augmented(Augment(flip=True), *rest, crops=crops, draws=2)
    for draw in flipped:
        assert any(np.allclose(draw[0], each / 255) for each in (rest[0][0], rest[0][0][:, ::-1]))
    data.crop_files = False
    assert file_crops(data, train.images, which, seed=5) is None


def test_labels_of_several_classes_are_shown_by_their_first():
    images, labels = pixels(4, 8, 8, 3), np.array([[0, 1], [1, 1], [0, 1], [1, 0]], np.uint8)
    augment = Augment(alternating_flip=True)
    found = augmented(augment, images, first_classes(labels), draws=2)
    np.testing.assert_allclose(found[0], found[1][:, :, ::-1])


def test_nothing_to_show_is_refused():
    with pytest.raises(InputError, match="no augmentation is on"):
        augmentation_sheet(Augment(), pixels(4, 8, 8, 3), np.arange(4))
