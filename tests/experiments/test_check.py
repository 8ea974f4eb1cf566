"""--check validates command lines without training: what a sweep asks before it starts."""

import json
import subprocess
import sys

import pytest

from tests.experiments.command import contents, run, run_all

LENET = "--config=lenet_digits"
UNSET = [
    "--config.model.width=none",
    "--config.model.dropout=none",
    "--config.model.dropout=0.25",
    "--config.train.steps=none",
    "--config.train.epochs=2",
    "--config.optim.milestones=0.1,0.2,0.3",
    "--config.optim.milestones=(0.5,)",
]
TWO_WORDS = [
    *("--config.model.width", "none"),
    *("--config.model.dropout", "0.25"),
    *("-config.optim.epsilon", "1e-3", "--config.optim.epsilon", "None"),
    *("--config.train.steps", "5", "--config.train.steps=none"),
    *("--config.train.epochs", "2"),
]
WRONG = {
    "a value out of range": (["--also=--config.optim.learning_rate=0"], "learning_rate is 0"),
    "an unknown field": (["--also=--config.optm.name=sgd"], "did you mean 'optim.name'?"),
    "an unknown network": (["--also=--config.model.name=vgg61"], "unknown network 'vgg61'"),
    "an option the network has not": (["--also=--config.model.batch_norm=true"], "batch_norm"),
    "an open quote": (["--also=--config.seed=1 'x"], "into flags: No closing quotation"),
    "a strength of nothing": (
        ["--also=--config.data.augment.rand_magnitude=3"],
        "set data.augment.rand_augment, too",
    ),
    "two warm-ups": (  # the config has one
        ["--also=--config.optim.schedule=one_cycle"],
        "one_cycle warms up by itself, for 0.3 of the run; set optim.warmup=0",
    ),
    "no steps": (["--also=--config.optim.schedule=step"], "optim.milestones are empty"),
    "no number": (["--also=--config.train.steps=many"], "many"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    place = tmp_path_factory.mktemp("check")
    good = [
        LENET, "--check", "--variable", "--workdir=run", "--config.train.steps=4",
        "--also=--config.optim.learning_rate=1 --config.model.dropout=0.5",
        "--also=--config.data.augment.flip=true '--config.optim.milestones=(0.5,0.75)'",
    ]  # fmt: skip
    lines = [good, *([LENET, "--check", *arguments] for arguments, _ in WRONG.values())]
    steps = ["--config.optim.schedule=step", "--also=--config.optim.milestones=0.5,0.7"]
    lines += [[LENET, "--check", *TWO_WORDS]]
    lines += [[LENET, "--check", *steps], [LENET, "--check", *UNSET]]
    said = run_all("train", lines, cwd=place)
    assert contents(place) == {}
    return said


def test_an_optional_field_is_unset_by_none(answers):
    config = json.loads(answers[-1].out)
    assert config["model"]["width"] is None and config["model"]["dropout"] == 0.25
    assert config["train"]["steps"] is None and config["train"]["epochs"] == 2


def test_a_value_may_be_a_word_of_its_own(answers):
    assert answers[-3].code == 0, answers[-3].err
    config = json.loads(answers[-3].out)
    assert (config["model"]["width"], config["model"]["dropout"]) == (None, 0.25)
    assert config["optim"]["epsilon"] is None
    assert (config["train"]["steps"], config["train"]["epochs"]) == (None, 2)


def test_what_each_of_the_others_sets_the_first_need_not(answers):
    assert answers[-2].code == 0, answers[-2].err
    milestones = [json.loads(line)["optim"]["milestones"] for line in answers[-2].out.splitlines()]
    assert milestones == [[], [0.5, 0.7]]


def test_of_a_list_too_the_last_one_counts(answers):
    assert json.loads(answers[-1].out)["optim"]["milestones"] == [0.5]


def test_help_is_no_failure_and_tells_of_shared_flags(tmp_path):
    answer = run("visualize", "--help", cwd=tmp_path)
    assert answer.code == 0
    for name in "config", "workdir", "checkpoint", "learning_rate", "what":
        assert f"\n  --{name}: " in answer.out


def test_a_reader_that_leaves_is_no_traceback():
    command = [sys.executable, "-m", "experiments.train", "--config"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        listing.stdout.close()
        assert listing.stderr.read() == b""


def test_each_complete_config_is_a_line_and_none_leaves_a_trace_in_the_next(answers):
    assert answers[0].code == 0, answers[0].err
    plain, second, third, differ = map(json.loads, answers[0].out.splitlines())
    assert (plain["train"]["steps"], plain["train"]["epochs"]) == (4, None)
    assert (second["optim"]["learning_rate"], second["model"]["dropout"]) == (1.0, 0.5)
    assert third["optim"]["milestones"] == [0.5, 0.75] and third["data"]["augment"]["flip"]
    assert third["optim"]["learning_rate"] == plain["optim"]["learning_rate"]
    assert third["model"]["dropout"] is None
    assert "optim.learning_rate" in differ["variable"]
    assert set(differ["all_or_none"]) < set(differ["variable"])


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line(answers, case):
    answer = answers[1 + list(WRONG).index(case)]
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert WRONG[case][1] in line
