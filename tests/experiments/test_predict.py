import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from cnn_jax.training.device_steps import sharded_eval_step
from cnn_jax.training.evaluation import evaluate
from cnn_jax.training.feeding import eval_batches
from cnn_jax.training.restore import restore_run
from cnn_jax.training.state import model_variables
from tests.experiments.command import contents, finish, run_all, start


@pytest.fixture(scope="module")
def evaluation(untrained):
    """The test images of a run and its own evaluation of them."""
    experiment, _, state = restore_run(untrained)
    test, step = experiment.dataset.test, jax.jit(sharded_eval_step(experiment))
    batches = eval_batches(experiment, test)
    return test, evaluate(step, model_variables(state), batches, examples=len(test))


@pytest.fixture(scope="module")
def place(tmp_path_factory, untrained, evaluation):
    """A directory with a run, but not its data, and with images of all kinds."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(untrained, place / "run")
    (place / "test" / "deep").mkdir(parents=True)
    (place / "empty").mkdir()
    for i, image in enumerate(evaluation[0].images[:40]):
        folder = "test/deep" if i >= 20 else "test"
        Image.fromarray(image[..., 0]).save(place / folder / f"{i:02}.png")
    large = Image.fromarray(evaluation[0].images[0, ..., 0]).resize((50, 120))
    large.convert("RGB").save(place / "large.jpg")
    (place / "bad.png").write_text("no image")
    return place


LINES = {
    "all": ["--workdir=run", "test", "--top=10", "--batch_size=16"],
    "mixed": ["large.jpg", "bad.png", "test/03.png", "missing.png", "empty", "--workdir=run"],
    "table": ["--workdir=run", "--format=table", "large.jpg", "--top=2", "--checkpoint=best"],
    "nothing good": ["--workdir=run", "bad.png"],
    "no run": ["--workdir=test", "large.jpg"],
    "no directory": ["--workdir=nowhere", "large.jpg"],
    "no workdir": ["large.jpg"],
    "no image": ["--workdir=run"],
    "no checkpoint": ["--workdir=started", "large.jpg"],
    "no class": ["--workdir=run", "large.jpg", "--top=0"],
}


@pytest.fixture(scope="module")
def answers(place):
    shutil.copytree(place / "run", place / "started")
    shutil.rmtree(place / "started" / "checkpoints")
    before = contents(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(place / "none"))
        patch.setenv("CNN_JAX_CACHE", str(place.parent / "cache"))
        found = run_all("predict", LINES.values(), cwd=place)
    assert contents(place) == before
    return dict(zip(LINES, found, strict=True))


def _lines(answer):
    return [json.loads(line) for line in answer.out.splitlines()]


def test_probabilities_are_those_of_the_runs_own_evaluation(answers, evaluation):
    answer = answers["all"]
    assert answer.code == 0, answer.err
    names = [f"test/{i:02}.png" for i in range(20)]
    names += [f"test/deep/{i:02}.png" for i in range(20, 40)]
    assert [each["image"] for each in _lines(answer)] == names
    expected = np.asarray(jax.nn.softmax(evaluation[1].logits[:40]))
    for each, row in zip(_lines(answer), expected, strict=True):
        assert {top["class"] for top in each["top"]} == set("0123456789")
        assert all(top["class"] == str(top["index"]) for top in each["top"])
        found = [top["probability"] for top in each["top"]]
        assert found == sorted(found, reverse=True)
        np.testing.assert_allclose(found, row[[t["index"] for t in each["top"]]], atol=1e-6)
    assert "40 images in" in answer.err and "images/s\n" in answer.err


def test_unreadable_files_are_told_and_the_others_done(answers):
    answer = answers["mixed"]
    assert answer.code == 2
    assert [each["image"] for each in _lines(answer)] == ["large.jpg", "test/03.png"]
    assert all(len(each["top"]) == 5 for each in _lines(answer))
    *errors, last = answer.err.splitlines()
    assert errors == [
        "error: bad.png is no image, or not in a format that Pillow reads",
        "error: missing.png can't be read (No such file or directory)",
        "error: empty is a folder that holds no image files",
    ]
    assert last.startswith("2 images in") and last.endswith("3 that can't be read")
    assert (answers["nothing good"].code, answers["nothing good"].out) == (2, "")


def test_a_table_for_people(answers):
    answer, said = answers["table"], _lines(answers["mixed"])[0]["top"]
    assert answer.code == 0, answer.err
    heading, row = (
        line.split() for line in answer.out.splitlines() if "─" not in line if line.strip()
    )
    assert heading == ["image", "class", "probability", "then"]
    first, second = said[:2]
    assert row == [
        "large.jpg",
        first["class"],
        f"{first['probability']:.1%}",
        second["class"],
        f"{second['probability']:.1%}",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no run", "test is no run directory"),
        ("no directory", "nowhere is no run directory"),
        ("no workdir", "--workdir=DIR is missing"),
        ("no image", "no IMAGE is given"),
        ("no checkpoint", "no checkpoint in started/checkpoints"),
        ("no class", "--top=0"),
    ],
)
def test_wrong_input_is_told_in_one_line(answers, line, message):
    answer = answers[line]
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err and answer.err.count("\n") == 1


def test_paths_from_stdin_are_answered_as_they_come(place):
    process = start("predict", "--workdir=run", "-", cwd=place, stdin=True)
    for name in ("test/05.png", "large.jpg"):
        process.stdin.write(f"{name}\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["image"] == name
    answer = finish(process)
    assert (answer.code, answer.out) == (0, "")
