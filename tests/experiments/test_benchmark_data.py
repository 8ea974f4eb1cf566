"""What input costs, measured through the real command line in a short form."""

import json

import numpy as np
import pytest
from PIL import Image

from cnn_jax.config import Config, Data
from cnn_jax.config_checks import validate
from experiments.contenders import files
from experiments.inputs import augmentations, resident
from tests.experiments.command import run_all

SHORT = ["--rounds=1", "--seconds=0.01", "--batch_size=4"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    lines = [
        [*SHORT, "--what=memory,augmentation", "--counts=12", "--operations=flip"],
        ["--what=speed"],
        ["--peers=pytorch"],
        ["--sizes=32,big"],
        ["--counts=0"],
        ["--cores=9999"],
        ["--operations=flipp"],
        ["--configs=lenet_digts"],
    ]
    return run_all("benchmark_data", lines, cwd=tmp_path_factory.mktemp("place"))


def test_a_record_for_each_subject(answers):
    answer = answers[0]
    assert answer.code == 0, answer.err
    memory, flip = map(json.loads, answer.out.splitlines())
    assert (memory["subject"], memory["what"]) == ("memory", "12 images of 160×160")
    assert memory["image_shape"] == [160, 160, 3]
    assert memory["peak_memory_bytes"] > 2**25
    assert (flip["subject"], flip["what"]) == ("augmentation", "flip")
    for record in memory, flip:
        assert record["contender"] == "cnn_jax"
        assert record["rate_max"] >= record["rate"] >= record["rate_min"] > 0
        assert record["ours_over_this"] == 1
    assert "ours ÷ this" in answer.err


def test_wrong_flags_are_refused_at_once(answers):
    wrong = [
        "unknown subject 'speed'",
        "'pytorch'",
        "--sizes=['32', 'big']: they must be whole numbers above 0",
        "--counts=['0']: they must be whole numbers above 0",
        "--cores=9999: there are",
        "did you mean 'flip'?",
        "did you mean 'lenet_digits'?",
    ]
    for answer, words in zip(answers[1:], wrong, strict=True):
        assert answer.code == 2 and answer.err.count("\n") == 1
        assert words in answer.err


def test_every_operation_is_a_change_that_a_config_can_make():
    for name, (augment, _) in augmentations.OPERATIONS.items():
        config = Config(data=Data(augment=augmentations.Augment(**augment)))
        config.train.steps = 1
        validate(config)
        assert name in {*augment, "crop"}


def test_the_files_are_as_many_as_asked_and_of_their_size(tmp_path):
    files.write_folder(tmp_path, count=5, size=(32, 24), extension="png")
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("t*/*/*"))
    assert len(names) == 7 and names[0] == "test/0000/0000000.png"
    pixels = [np.asarray(Image.open(tmp_path / name)) for name in names]
    assert {each.shape for each in pixels} == {(32, 24, 3)}
    assert len({each.tobytes() for each in pixels}) == 7
    paths, labels = files.train_files(tmp_path)
    assert labels == [0, 0, 0, 1, 1] and paths[3].endswith("train/0001/0000001.png")


def test_steps_are_compared_turn_by_turn_by_their_median(monkeypatch):
    rates = {"fed": iter([9.0, 1.0, 4.0]), "fixed": iter([9.0, 2.0, 4.0])}
    monkeypatch.setattr(resident, "_steps", lambda config: {name: name for name in rates})
    monkeypatch.setattr(resident, "_rate", lambda name, seconds: next(rates[name]))
    found = resident.measure("cnn_jax", 1.0, config="any", turns=2)
    assert (found["rate"], found["fixed_batch_rate"]) == (2.5, 3.0)
    assert (found["overhead"], found["overhead_min"], found["overhead_max"]) == (0.5, 0.0, 1.0)
