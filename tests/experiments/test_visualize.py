import numpy as np
from PIL import Image

from tests.experiments.command import run_all


def test_augmentation_is_drawn_and_wrong_input_is_told_in_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    lines = [
        ["--config=lenet_digits"],
        ["--config=lenet_digits", "--what=augmentation", "--out=mine.png"],
        ["--config=lenet_digits", "--config.data.augment.crop_padding=0"],
        ["--config=lenet_digits", "--config.data.augment.hue=0.1"],
        ["--config=lenet_digits", "--out=none/mine.png"],
        ["--config=lenet_digits", "--out=mine.text"],
        ["--config=lenet_digits", "--out=folder"],
        ["--config=lenet_digits", "--what=nothing"],
    ]
    drawn, named, *refused = run_all("visualize", lines, cwd=tmp_path)
    assert (drawn.code, drawn.out) == (0, "")
    assert drawn.err == "wrote lenet_digits_augmentation.png\n"
    assert named.code == 0
    pictures = [
        np.asarray(Image.open(tmp_path / name))
        for name in ("lenet_digits_augmentation.png", "mine.png")
    ]
    np.testing.assert_array_equal(*pictures)
    messages = [
        "no augmentation is on",
        "hue needs images with 3 channels; these have 1",
        "none/mine.png can't be written",
        "mine.text can't be written",
        "folder can't be written",
        "nothing",
    ]
    for answer, message in zip(refused, messages, strict=True):
        assert answer.code == 2
        assert message in answer.err and answer.err.count("\n") == 1
