"""A population through the real command line."""

import json
import shutil

import pytest

from cnn_jax.training.run_directory import read_json
from tests.experiments.command import run_all

ARGUMENTS = [
    "--config=lenet_digits",
    "--config.train.steps=6",
    "--config.population.seeds=2",
    "--config.population.values=optim.learning_rate=0.01,0.05",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("population")
    lines = [
        [*ARGUMENTS, "--workdir=p"],
        [*ARGUMENTS, "--workdir=p"],
        [*ARGUMENTS[:2], "--config.population.values=model.depth=20,56", "--workdir=q"],
        [*ARGUMENTS, "--workdir=p", "--config.population.seeds=3"],
        [*ARGUMENTS[:2], "--config.population.values=optim.momentum=0.8,0.9", "--workdir=q"],
    ]
    return cwd, run_all("train", lines, cwd=cwd)


def test_it_trains_and_says_what_it_does(trained):
    cwd, (first, again, *refused) = trained
    assert first.code == 0, first.err
    assert "4 members, by strategy each" in first.err
    result = read_json(cwd / "p" / "result.json")
    assert len(result["members"]) == 4
    assert all(member["test_examples"] == 297 for member in result["members"])
    assert again.code == 0 and "holds a finished run" in again.err
    assert [(a.code, len(a.err.splitlines())) for a in refused] == [(2, 1)] * 3
    assert "model.depth can't differ between members" in refused[0].err
    assert "population.seeds is 2 there, not 3" in refused[1].err
    assert "adamw has no optim.momentum" in refused[2].err and not (cwd / "q").exists()


def test_its_members_are_evaluated_all_or_one(trained):
    cwd, _ = trained
    lines = [[], ["--member=3"], ["--member=4"]]
    every, one, none = run_all("evaluate", [["--workdir=p", *line] for line in lines], cwd=cwd)
    assert (every.code, one.code) == (0, 0), every.err + one.err
    said, expected = json.loads(every.out), read_json(cwd / "p" / "result.json")
    for member, result in zip(said["members"], expected["members"], strict=True):
        assert member["test_accuracy"] == result["test_accuracy"]
    assert said["test_accuracy"] == pytest.approx(expected["test_accuracy"])
    assert json.loads(one.out) == said["members"][3]
    assert (cwd / "p" / "members" / "003" / "evaluation" / "test_confusion.csv").exists()
    assert (none.code, none.err) == (2, "error: there is no member 4; they are numbered 0 to 3\n")


def test_members_that_ended_early_are_in_no_mean(trained, tmp_path):
    shutil.copytree(trained[0] / "p", tmp_path / "p")
    ended = tmp_path / "p" / "members" / "002" / "result.json"
    ended.write_text(json.dumps(read_json(ended) | {"ended": "halving"}))
    (answer,) = run_all("evaluate", [["--workdir=p"]], cwd=tmp_path)
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    kept = [said["members"][i]["test_accuracy"] for i in (0, 1, 3)]
    assert len(said["members"]) == 4 and said["test_accuracy"] == pytest.approx(sum(kept) / 3)
    assert "not in the means" in answer.err and "members 002" in answer.err


def test_of_many_classes_the_top_5_accuracy_has_a_mean_as_well(tmp_path):
    data = ["--config.data.name=synthetic", "--config.data.synthetic.classes=20"]
    sizes = ["--config.data.synthetic.train_examples=64", "--config.data.batch_size=16"]
    run = [*data, *sizes, "--config.train.steps=1", "--workdir=p", "--config.population.seeds=2"]
    (answer,) = run_all("train", [["--config=lenet_digits", *run]], cwd=tmp_path)
    assert answer.code == 0, answer.err
    (answer,) = run_all("evaluate", [["--workdir=p"]], cwd=tmp_path)
    said, result = json.loads(answer.out), read_json(tmp_path / "p" / "result.json")
    five = [member["test_top5_accuracy"] for member in result["members"]]
    assert result["test_top5_accuracy"] == pytest.approx(sum(five) / 2)
    assert said["test_top5_accuracy"] == pytest.approx(sum(five) / 2)
