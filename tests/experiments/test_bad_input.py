"""Wrong input: exit code 2, one line on stderr that says what would be right, nothing written."""

import json
import shutil
from typing import NamedTuple

import pytest

from experiments import configs
from tests.experiments.command import contents, run, run_all
from tests.experiments.conftest import ARGUMENTS


class Case(NamedTuple):
    arguments: list
    says: list  # parts of the message


LENET, NEW = "--config=lenet_digits", "--workdir=new"
RATE = configs.load("lenet_digits").optim.learning_rate
TRAIN = {
    "no config": Case([], ["--config=NAME is missing", "lenet_digits", "vgg_cifar"]),
    "unknown config": Case(
        ["--config=lenet_digts", NEW],
        ["unknown config 'lenet_digts'", "did you mean 'lenet_digits'?", "vgg_cifar"],
    ),
    "no such config file": Case(["--config=none.json", NEW], ["there is no config file none.json"]),
    "a config file that is none": Case(["--config=broken.json", NEW], ["not JSON"]),
    "a config file that is no Python": Case(
        ["--config=syntax.py", NEW], ["syntax.py fails: SyntaxError", "line 2"]
    ),
    "a config file that fails": Case(
        ["--config=fails.py", NEW], ["fails.py fails: ZeroDivisionError: division by zero"]
    ),
    "a config file that ends the process": Case(
        ["--config=exits.py", NEW], ["exits.py fails: SystemExit: no data"]
    ),
    "a config file without its function": Case(
        ["--config=without.py", NEW], ["without.py defines no get_config()"]
    ),
    "a config file that returns none": Case(
        ["--config=three.py", NEW], ["three.py: get_config() returns int", "must return a Config"]
    ),
    "a field without a config": Case(
        ["--config.train.steps=3", NEW], ["--config=NAME is missing", "lenet_digits"]
    ),
    "unknown field": Case(
        [LENET, NEW, "--config.optim.learning_rte=0.1"],
        ["'optim.learning_rte'", "did you mean 'optim.learning_rate'?"],
    ),
    "unknown field before the config": Case(
        ["--config.optm.name=sgd", LENET, NEW], ["'optm.name'", "did you mean 'optim.name'?"]
    ),
    "unknown field with a no in it": Case(
        [LENET, NEW, "--config.foonoseed=1"], ["unknown config field 'foonoseed'"]
    ),
    "unknown field after a no": Case(
        [LENET, NEW, "--config.nodata.augment.flip"], ["unknown config field 'nodata.augment.flip'"]
    ),
    "unknown field unset": Case(
        [LENET, NEW, "--noconfig.data.augment.flipp"], ["did you mean 'data.augment.flip'?"]
    ),
    "a group of fields": Case([LENET, NEW, "--config.optim=3"], ["optim is a group of fields"]),
    "no number": Case(
        [LENET, NEW, "--config.optim.learning_rate=fast"], ["fast: a number is wanted"]
    ),
    "no whole number": Case(
        [LENET, NEW, "--config.train.steps=1.5"], ["steps=1.5: a whole number is wanted"]
    ),
    "no truth value": Case(
        [LENET, NEW, "--config.data.augment.flip=maybe"], ["flip=maybe: true or false is wanted"]
    ),
    "no list of numbers": Case(
        [LENET, NEW, "--config.optim.milestones=0.5,x"], ["optim.milestones are ('0.5,x',)"]
    ),
    "other classes": Case(
        [
            LENET,
            NEW,
            "--config.data.name=image_folder",
            "--config.data.dir=pets",
            "--config.data.class_names=cats, cows",
        ],
        ["pets has the classes cats, dogs; data.class_names wants cats, cows"],
    ),
    "negative rate": Case(
        [LENET, NEW, "--config.optim.learning_rate=-1"], ["optim.learning_rate is -1", "above 0"]
    ),
    "infinite epochs": Case([LENET, NEW, "--config.train.epochs=inf"], ["train.epochs", "finite"]),
    "both lengths": Case(
        [LENET, NEW, "--config.train.steps=5", "--config.train.epochs=3"],
        ["exactly one of train.epochs and train.steps"],
    ),
    "no length": Case([LENET, NEW, "--config.train.epochs=none"], ["train.steps"]),
    "batch above the training set": Case(
        [LENET, NEW, "--config.data.batch_size=5000"],
        ["data.batch_size is 5000", "1350 training examples", "1350 at most"],
    ),
    "more devices than there are": Case(
        [LENET, NEW, "--config.devices=3"], ["devices is 3", "there are 1"]
    ),
    "no population, and what has no effect": Case(
        [LENET, NEW, "--config.optim.momentum=0.9", "--config.population.strategy=vmap"],
        ["population.strategy is vmap, but this is a single run"],
    ),
    "unknown network": Case(
        [LENET, NEW, "--config.model.name=vgg61"], ["unknown network 'vgg61'", "vgg16"]
    ),
    "option the network has not": Case(
        [LENET, NEW, "--config.model.batch_norm=true"], ["lenet_same", "batch_norm"]
    ),
    "unknown activation": Case(
        [LENET, NEW, "--config.model.activation=rleu"], ["'rleu'", "did you mean 'relu'?"]
    ),
    "images too small": Case(
        [LENET, NEW, "--config.model.name=vgg16"], ["images of 8×8×1", "pool4"]
    ),
    "unknown dataset": Case([LENET, NEW, "--config.data.name=cifra10"], ["cifra10", "cifar10"]),
    "nothing left for validation": Case(
        [LENET, NEW, "--config.data.validation_fraction=0.0001"], ["validation_fraction"]
    ),
    "unknown flag": Case([LENET, NEW, "--wrkdir=x"], ["wrkdir"]),
    "a word that is no flag": Case([LENET, NEW, "stray"], ["'stray' is no flag"]),
    "another run's directory": Case(
        [*ARGUMENTS, "--workdir=finished", "--config.seed=3", "--config.optim.learning_rate=0.5"],
        ["holds another run", "seed is 0 there, not 3", f"optim.learning_rate is {RATE} there"],
    ),
    "a directory without a name": Case([LENET, "--workdir="], ["--workdir is empty"]),
    "a directory that is a file": Case([LENET, "--workdir=file"], ["file is a file"]),
    "a directory below a file": Case([LENET, "--workdir=file/run"], ["file"]),
    "a directory that can't be made": Case([LENET, "--workdir=/proc/run"], ["/proc/run", "not"]),
    "a run with a damaged result": Case(
        [*ARGUMENTS, "--workdir=torn"], ["torn/result.json is damaged", "delete it and train again"]
    ),
    "a run with a damaged config": Case([LENET, "--workdir=damaged"], ["damaged/config.json"]),
}
EVALUATE = {
    "no run": Case([], ["--workdir=DIR is missing"]),
    "a run without a name": Case(["--workdir="], ["--workdir is empty"]),
    "no run there": Case(["--workdir=nowhere"], ["nowhere is no run directory"]),
    "unknown split": Case(["--workdir=finished", "--split=tset"], ["split", "test"]),
    "no checkpoint": Case(["--workdir=started"], ["no checkpoint in started/checkpoints"]),
}
SUMMARY = {
    "no config": Case([], ["--config=NAME is missing"]),
    "unknown format": Case([LENET, "--format=html"], ["format", "json"]),
    "images too small": Case([LENET, "--config.model.name=vgg16"], ["8×8×1", "pool4"]),
    "a value out of range": Case([LENET, "--config.model.dropout=2"], ["model.dropout is 2"]),
    "images of many sizes": Case(
        [LENET, "--config.data.name=imagenet2012"],
        ["imagenet2012 have no common size; set --config.data.image_size"],
    ),
}
FILES = {
    "broken.json": "{",
    "syntax.py": "def get_config():\n    return (\n",
    "fails.py": "1 / 0\n",
    "exits.py": "import sys\nsys.exit('no data')\n",
    "without.py": "",
    "three.py": "def get_config():\n    return 3\n",
}
COMMANDS = {"train": TRAIN, "evaluate": EVALUATE, "summary": SUMMARY}


@pytest.fixture(scope="module")
def place(tmp_path_factory, finished):
    """A directory with all the things that the command lines name."""
    place = tmp_path_factory.mktemp("place")
    (place / "finished").symlink_to(finished[0])
    (place / "file").write_text("a")
    for name, text in FILES.items():
        (place / name).write_text(text)
    for name in "cats", "dogs":
        (place / "pets" / name).mkdir(parents=True)
        (place / "pets" / name / "0.png").touch()
    for name, text in {"damaged": "{", "started": "{}"}.items():
        (place / name).mkdir()
        (place / name / "config.json").write_text(text)
    (place / "torn").mkdir()
    shutil.copy(finished[0] / "config.json", place / "torn")
    (place / "torn" / "result.json").write_text("[1")
    return place


@pytest.fixture(scope="module")
def answers(place, finished):
    """What every command said to every command line, and what changed on disk meanwhile."""
    before = contents(place), contents(finished[0])
    said = {}
    for name, cases in COMMANDS.items():
        lines = [case.arguments for case in cases.values()]
        said[name] = dict(zip(cases, run_all(name, lines, cwd=place), strict=True))
    after = contents(place), contents(finished[0])
    return said, before, after


@pytest.mark.parametrize(
    ("command", "case"), [(name, case) for name, cases in COMMANDS.items() for case in cases]
)
def test_one_clear_line_and_exit_code_2(answers, command, case):
    answer = answers[0][command][case]
    assert answer.code == 2, answer.err
    assert answer.out == ""
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("error: ")
    for part in COMMANDS[command][case].says:
        assert part in lines[0]


def test_nothing_was_written(answers):
    _, before, after = answers
    assert after == before


def test_a_batch_that_devices_cannot_share(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")
    answer = run("train", LENET, NEW, "--config.data.batch_size=50", cwd=tmp_path)
    assert answer.code == 2
    assert "not divisible over 4 devices; take 48 or 52" in answer.err
    assert contents(tmp_path) == {}


def test_data_not_prepared_in_a_process_of_its_own(tmp_path):
    (tmp_path / "nothing").mkdir()
    place = "--config.data.dir=nothing"
    answer = run("train", "--config=vgg_cifar", place, NEW, cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.err.splitlines()
    assert line.startswith("error: cifar10 is not prepared: looked for ")
    assert str(tmp_path / "nothing") in line
    assert "python -m experiments.prepare --dataset=cifar10" in line
    assert not (tmp_path / "new").exists()


def test_config_alone_lists_the_configs(tmp_path):
    lines = [["--config"], ["--config", "--workdir=new"], ["-config"]]
    for answer in run_all("train", lines, cwd=tmp_path):
        assert (answer.code, answer.err) == (0, "")
        listed = dict(line.split(maxsplit=1) for line in answer.out.splitlines())
        assert listed.keys() >= {"lenet_digits", "vgg_cifar"}
        assert "handwritten digits" in listed["lenet_digits"]
    assert contents(tmp_path) == {}


def test_a_config_may_follow_its_fields_and_a_space(tmp_path):
    lines = [
        ["--config.model.activation=tanh", "--config", "lenet_digits", "--format=json"],
        ["-config.model.activation", "tanh", "-config=lenet_digits", "--format", "json"],
    ]
    for answer in run_all("summary", lines, cwd=tmp_path):
        assert answer.code == 0, answer.err
        assert "conv1_tanh" in [row["name"] for row in json.loads(answer.out)["layers"]]
