import json
import shutil

import numpy as np
from PIL import Image

from cnn_jax.data.normalization import Normalization
from tests.experiments.command import run_all


def test_augmentation_is_drawn_and_wrong_input_is_told_in_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    images, labels = np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "two.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    two_classes = ["--config.data.name=npz", "--config.data.dir=two.npz"]
    lines = [
        ["--config=lenet_digits"],
        ["--config=lenet_digits", "--what=augmentation", "--out=mine.png"],
        ["--config=lenet_digits", "--config.data.augment.crop_padding=0"],
        ["--config=lenet_digits", "--config.data.augment.hue=0.1"],
        ["--config=lenet_digits", "--out=none/mine.png"],
        ["--config=lenet_digits", "--out=mine.text"],
        ["--config=lenet_digits", "--out=folder"],
        ["--config=lenet_digits", "--what=nothing"],
        ["--config=lenet_digits", *two_classes, "--out=two.png"],
    ]
    drawn, named, *refused, two = run_all("visualize", lines, cwd=tmp_path)
    assert (drawn.code, drawn.out) == (0, "")
    assert drawn.err == "wrote lenet_digits_augmentation.png\n"
    assert named.code == 0
    pictures = [
        np.asarray(Image.open(tmp_path / name))
        for name in ("lenet_digits_augmentation.png", "mine.png")
    ]
    np.testing.assert_array_equal(*pictures)
    assert two.code == 0, two.err
    assert np.asarray(Image.open(tmp_path / "two.png")).shape == pictures[0].shape
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


QUICK = ["--steps=2", "--examples=32"]


def drawn(answer, cwd):
    """The files that a command says it wrote, by their names, as arrays."""
    assert answer.code == 0, answer.err
    paths = [line.removeprefix("wrote ") for line in answer.err.splitlines() if "wrote" in line]
    return {path.rpartition("/")[2]: np.asarray(Image.open(cwd / path)) for path in paths}


def photograph(path, mode="RGB", size=(30, 20)):
    pixels = np.random.default_rng(0).integers(0, 256, (*reversed(size), 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def test_a_run_is_looked_into(untrained, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(untrained, run_dir)
    photograph(tmp_path / "mine.jpg")
    whats = "--what=attribution,filters,classes,receptive_field"
    lines = [
        [whats, "--layer=conv1", "--class=3,7", *QUICK],
        ["--what=feature_maps,deep_dream,kernels", "--layer=conv2$", "--image=mine.jpg"],
    ]
    lines = [["--workdir=run", *line] for line in lines]
    answers = run_all("visualize", lines, cwd=tmp_path)
    first, second = (drawn(answer, tmp_path) for answer in answers)
    assert set(first) == {
        "attribution.png",
        "kernels_conv1.png",
        "filters_conv1.png",
        "classes.png",
        "receptive_field.png",
    }
    assert set(second) == {"feature_maps_mine.png", "deep_dream.png", "image_kernels.png"}
    assert first["attribution.png"].shape[0] > 8 * 160  # eight images below each other
    assert first["classes.png"].shape[0] == 3 + 2 * (96 + 3)
    assert second["feature_maps_mine.png"].shape[0] == 3 + 18 + 2 * (64 + 3)
    assert all(picture.std() > 5 for each in (first, second) for picture in each.values())
    assert {path.name for path in (run_dir / "figures").iterdir()} == {*first, *second}


def test_without_data_the_network_alone_is_drawn_and_images_that_are_given(untrained, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(untrained, run_dir)
    config = json.loads((run_dir / "config.json").read_text())
    config["data"] |= {"name": "npz", "dir": "gone.npz"}
    (run_dir / "config.json").write_text(json.dumps(config))
    images, labels = np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "two.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    photograph(tmp_path / "mine.png")
    lines = [
        ["--layer=conv1", "--class=3,7", *QUICK],
        ["--what=receptive_field", "--layer=conv1", "--image=mine.png"],
        ["--what=attribution"],
        ["--what=attribution", "--data_dir=two.npz"],
    ]
    lines = [["--workdir=run", *line] for line in lines]
    alone, given, refused, others = run_all("visualize", lines, cwd=tmp_path)
    assert {*drawn(alone, tmp_path)} == {"kernels_conv1.png", "filters_conv1.png", "classes.png"}
    assert "only filters and classes are drawn without images" in alone.err
    assert {*drawn(given, tmp_path)} == {"receptive_field.png"}
    assert refused.code == 2
    assert "gone.npz" in refused.err and "or give --image=FILE" in refused.err
    assert refused.err.count("\n") == 1
    assert others.code == 2
    assert "class 2 of the data is missing, but 2 in the run" in others.err


def test_dreams_at_a_size_that_normalisation_holds_are_enlarged_to_be_seen(untrained, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(untrained, run_dir)
    per_pixel = np.full((2, 8, 8, 1), [[[[0.3]]], [[[0.2]]]], np.float32)
    Normalization("per_pixel", *per_pixel).save(run_dir / "normalization.npz")
    photograph(tmp_path / "mine.png")
    line = ["--workdir=run", "--what=deep_dream", "--layer=conv2$", "--image=mine.png"]
    (answer,) = run_all("visualize", [line], cwd=tmp_path)
    assert drawn(answer, tmp_path)["deep_dream.png"].shape[0] > 128


def test_image_kernels_need_no_run(tmp_path):
    for name in ("a.png", "b.png"):
        photograph(tmp_path / name, mode="L" if name == "b.png" else "RGB")
    (tmp_path / "broken.png").write_bytes(b"no image")
    for size in ((1, 1), (2000, 1), (2000, 4)):
        photograph(tmp_path / f"{size[0]}x{size[1]}.png", size=size)
    lines = [
        ["--what=kernels", "--image=a.png"],
        ["--what=kernels", "--out=sheet.png", "--image", "a.png", "broken.png", "b.png"],
        ["--what=kernels", "--image=broken.png"],
        ["--what=kernels"],
        ["--what=kernels", "--out=narrow.png", "--image", "1x1.png", "2000x4.png", "2000x1.png"],
    ]
    one, some, none, missing, small = run_all("visualize", lines, cwd=tmp_path)
    assert drawn(one, tmp_path)["kernels.png"].shape[0] == 3 + 18 + 2 * (192 + 3)
    assert some.code == none.code == missing.code == 2
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape[0] == 3 + 18 + 3 * (192 + 3)
    assert some.err.splitlines()[0] == "wrote sheet.png"
    assert some.err.splitlines()[1].startswith("error: broken.png is no image")
    assert none.err.startswith("error: broken.png is no image") and none.err.count("\n") == 1
    assert "--image=FILE" in missing.err
    assert small.code == 2 and small.err.splitlines()[0] == "wrote narrow.png"
    few = "is too small for a kernel of 5×5: 3 pixels each way at least"
    assert f"error: 1x1.png {few}, and 1 more: 2000x1.png {few}\n" in small.err


def test_wrong_input_for_a_run_is_told_in_one_line(untrained, tmp_path):
    (tmp_path / "empty").mkdir()
    shutil.copytree(untrained, tmp_path / "bare", ignore=shutil.ignore_patterns("checkpoints"))
    lines = {
        ("--what=classes",): "--workdir=DIR is missing",
        ("--workdir=empty",): "no run directory",
        ("--workdir=bare",): "no checkpoint",
        (f"--workdir={untrained}", "--what=filters", "--layer=conv9"): "did you mean 'conv",
        (f"--workdir={untrained}", "--what=filters", "--layer=logits"): "these can: conv1, conv2",
        (f"--workdir={untrained}", "--what=classes", "--class=10"): "they are 0 to 9",
        (f"--workdir={untrained}", "--what=classes", "--class=ten"): "no class 'ten'",
        (f"--workdir={untrained}", "--what=clases"): "did you mean 'classes'",
        (f"--workdir={untrained}", "--image=none.png"): "none.png",
        (f"--workdir={untrained}", "--out=a.png"): "--out has no effect on pictures of a run",
        (
            f"--workdir={untrained}",
            "--config=lenet_digits",
        ): "--workdir has no effect on --what=aug",
        ("--workdir=no", "--config=lenet_digits", "--what=filters"): "--config has no effect on",
        (
            "--config=lenet_digits",
            "--what=kernels",
            "--image=a",
        ): "--config has no effect on --what=k",
        ("--config=lenet_digits", "--layer=conv1"): "--layer has no effect on --what=augmentation",
        (
            "--workdir=no",
            "--what=classes,kernels",
            "--layer=a",
        ): "no effect on --what=classes,kernels",
        ("--workdir=no", "--what=filters", "--class=3"): "or draw any of classes, attribution",
        ("--workdir=no", "--what=deep_dream", "--steps=3"): "or draw any of filters, classes",
        ("--workdir=no", "--what=classes", "--examples=9"): "--examples has no effect on",
        ("--workdir=no", "--what=classes", f"--seed={2**64}"): "--seed=18446744073709551616",
        ("--workdir=no", "--what=filters", "--examples=0"): "--examples=0",
        ("--workdir=no", "--what=classes", f"--jitter={2**40}"): "--jitter=1099511627776",
        ("--workdir=no", "--what=feature_maps", "--seed=1"): "--seed has no effect on",
        ("--what=kernels", "--image=a", "--checkpoint=best"): "--checkpoint has no effect on",
        ("--workdir=no", "--what=filters,classes", "--image=a"): "--image has no effect on",
    }
    answers = run_all("visualize", [*map(list, lines)], cwd=tmp_path)
    for answer, message in zip(answers, lines.values(), strict=True):
        assert answer.code == 2, answer.err
        assert message in answer.err and answer.err.count("\n") == 1
        assert answer.out == ""
