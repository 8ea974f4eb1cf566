"""Data that is streamed, through the real command line."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cnn_jax.metric_rows import read_rows
from cnn_jax.training.run_directory import read_json
from tests.data.fakes import prepare_imagenet
from tests.experiments.command import run_all

SHRUNK = [
    "--config=resnet50_imagenet",
    "--config.model.name=resnet20_cifar",
    "--config.model.depth=8",  # compiled in a moment
    "--config.data.feed=streaming",
    "--config.data.workers=1",
    "--config.data.image_size=32",
    "--config.data.validation_fraction=0.2",
    "--config.data.batch_size=4",
    "--config.data.eval_batch_size=4",
    "--config.model.width=0.25",
    "--config.train.steps=2",
    "--config.train.log_every=1",
    "--config.train.pictures=false",
]


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("tfds")
    prepare_imagenet(data_dir)
    return data_dir


def test_a_resnet_runs_on_images_in_imagenets_form(imagenet, tmp_path):
    place = f"--config.data.dir={imagenet}"
    (answer,) = run_all("train", [[*SHRUNK, place, "--workdir=run"]], cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert "streamed to the device" in answer.err
    assert "Traceback" not in answer.err
    result = read_json(tmp_path / "run" / "result.json")
    assert (result["feed"], result["steps"], result["test_examples"]) == ("streaming", 2, 6)
    assert 0 <= result["test_accuracy"] <= result["test_top5_accuracy"] <= 1
    assert result["input_wait_seconds"] > 0
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert all(np.isfinite(row["train_loss"]) for row in rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes in train and test, one bad file in each part; and one file in both."""
    root = tmp_path_factory.mktemp("folder") / "pets"
    rng = np.random.default_rng(0)
    for part in "train", "test":
        for name in "cats", "dogs":
            (root / part / name).mkdir(parents=True)
            for index in range(8):
                size = rng.integers(12, 20, 2)
                pixels = rng.integers(0, 256, (*size, 3), np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
        (root / part / "dogs" / "8.png").write_bytes(b"")
    shutil.copy(root / "train" / "cats" / "0.png", root / "test" / "cats" / "9.png")
    return root


def _options(folder):
    return [
        "--config=lenet_digits",
        "--config.data.name=image_folder",
        f"--config.data.dir={folder}",
        "--config.data.image_size=12",
        "--config.data.feed=streaming",
        "--config.data.batch_size=4",
        "--config.train.steps=2",
        "--workdir=run",
    ]


def test_bad_files_of_a_streamed_folder_stop_the_run_or_are_skipped_and_listed(folder, tmp_path):
    options = _options(folder)
    skip = "--config.data.on_bad_example=skip"
    refused, answer = run_all("train", [options, [*options, skip]], cwd=tmp_path)
    assert refused.code == 2
    (line,) = refused.err.splitlines()
    assert line.startswith(f"error: {folder}/train/dogs/8.png is empty; repair or delete it")
    assert answer.code == 0, answer.err
    assert "warning: 2 bad files" in answer.err
    assert "1 test files" in answer.err and "test/cats/9.png (train/cats/0.png)" in answer.err
    result = read_json(tmp_path / "run" / "result.json")
    assert result["skipped_examples"] == ["train/dogs/8.png is empty", "test/dogs/8.png is empty"]
    assert (result["feed"], result["test_examples"]) == ("streaming", 17)
    (answer,) = run_all("evaluate", [["--workdir=run"]], cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["test_loss"] == pytest.approx(result["test_loss"], rel=1e-5)
