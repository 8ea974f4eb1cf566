"""Wrong input to the launch commands: exit code 2, one line on stderr, nothing written."""

import os
from typing import NamedTuple

import pytest

from tests.experiments.command import contents
from tests.launch.command import run_all


class Case(NamedTuple):
    arguments: list
    says: list  # parts of the message


CONFIG, DIR, GRID = "--config=mine", "--workdir=new", "--param=optim.learning_rate=0.1,0.2"
RATE = "--param=optim.learning_rate=log:1e-3:1"
SWEEP = {
    "no directory": Case([CONFIG, GRID], ["--workdir=DIR is missing"]),
    "a directory without a name": Case([CONFIG, GRID, "--workdir="], ["--workdir is empty"]),
    "nothing to sweep": Case([CONFIG, DIR], ["nothing to sweep", "--param=FIELD="]),
    "no values": Case([CONFIG, DIR, "--param=optim.learning_rate="], ["has no values"]),
    "no field": Case([CONFIG, DIR, "--param=0.1"], ["--param=0.1 is not of the form FIELD="]),
    "an unknown field": Case(
        [CONFIG, DIR, "--param=optim.learning_rte=0.1"], ["unknown config field", "learning_rte"]
    ),
    "an invalid value in a list": Case(
        [CONFIG, DIR, "--param=optim.learning_rate=0.1,0"], ["learning_rate is 0", "above 0"]
    ),
    "an invalid end of a range": Case(
        [CONFIG, DIR, "--param=optim.learning_rate=range:-1:1", "--trials=3"], ["rate is -1.0"]
    ),
    "a logarithm of zero": Case(
        [CONFIG, DIR, "--param=optim.learning_rate=log:0:1", "--trials=3"], ["above 0, not at 0"]
    ),
    "an empty range": Case(
        [CONFIG, DIR, "--param=train.steps=int:5:2"], ["is empty: 5 is not below 2"]
    ),
    "an endless grid": Case([CONFIG, DIR, RATE], ["grid", "no end", "--trials=N"]),
    "an endless search": Case([CONFIG, DIR, GRID, "--sampler=tpe"], ["give --trials=N"]),
    "a field twice": Case([CONFIG, DIR, GRID, GRID], ["there are two --param=optim.learning_rate"]),
    "a field swept and set": Case(
        [CONFIG, DIR, GRID, "--config.optim.learning_rate=1"], ["optim.learning_rate is swept and"]
    ),
    "the seed swept": Case([CONFIG, DIR, "--param=seed=1,2"], ["seed is swept", "--seeds=N"]),
    "seeds beyond the last": Case(
        [CONFIG, DIR, GRID, f"--config.seed={2**32 - 1}", "--seeds=2"],
        [f"--seeds=2 from seed {2**32 - 1} on ends with {2**32}; seeds must be below 2**32"],
    ),
    "members of a population swept": Case(
        [CONFIG, DIR, "--param=population.seeds=2,3"], ["population.* is swept", "--seeds=N"]
    ),
    "a grid of tiny steps": Case(
        [CONFIG, DIR, "--param=optim.learning_rate=range:0:1:1e-9"], ["more than 100,000 points"]
    ),
    "no validation split in a point": Case(
        [CONFIG, DIR, "--param=data.validation_fraction=0.1,0"], ["no validation split"]
    ),
    "a condition on nothing": Case(
        [CONFIG, DIR, "--param=optim.momentum=0.1 if model.name=well"],
        ["optim.momentum is on condition of model.name", "before"],
    ),
    "a condition that never holds": Case(
        [CONFIG, DIR, "--param=model.name=well", "--param=optim.momentum=0.1 if model.name=bad"],
        ["model.name=bad", "none of"],
    ),
    "the test split": Case([CONFIG, DIR, GRID, "--objective=test_accuracy"], ["test split"]),
    "an unknown objective": Case(
        [CONFIG, DIR, GRID, "--objective=paramters"], ["did you mean 'parameters'?"]
    ),
    "no validation split": Case(
        [CONFIG, DIR, GRID, "--config.data.validation_fraction=0"],
        ["no validation split", "--config.data.validation_fraction=0.1"],
    ),
    "a population": Case(
        [CONFIG, DIR, GRID, "--config.population.seeds=4"], ["population", "--seeds=N"]
    ),
    "pruning by a cost": Case(
        [CONFIG, DIR, GRID, "--pruner=median", "--objective=-parameters"], ["--pruner=median needs"]
    ),
    "more workers than cores": Case(
        [CONFIG, DIR, GRID, "--workers=9999"], ["--workers=9999", "cores here", "--share"]
    ),
    "an unknown sampler": Case([CONFIG, DIR, GRID, "--sampler=best"], ["sampler", "tpe"]),
    "an unknown flag": Case([CONFIG, DIR, GRID, "--trails=3"], ["trails"]),
    "a word that is no flag": Case([CONFIG, DIR, GRID, "stray"], ["'stray' is no flag"]),
    "no such space": Case([CONFIG, DIR, "--space=none.py"], ["no space file none.py"]),
    "a space that fails": Case([CONFIG, DIR, "--space=fails.py"], ["the space fails", "KeyError"]),
    "a space without its function": Case([CONFIG, DIR, "--space=none_in.py"], ["space(trial)"]),
    "a space that ends the process": Case(
        [CONFIG, DIR, "--space=exits.py"], ["exits.py fails", "SystemExit: 3"]
    ),
    "choices that no journal keeps": Case(
        [CONFIG, DIR, "--space=tuples.py"], ["optim.milestones", "(0.5,)", "as text: '(0.5,)'"]
    ),
    "trials that are a file": Case([CONFIG, GRID, "--workdir=taken"], ["taken/trials"]),
    "results that are a folder": Case([CONFIG, GRID, "--workdir=full"], ["full/trials.csv is a"]),
    "a journal that is another file": Case(
        [CONFIG, GRID, "--workdir=diary"], ["journal.log is no sweep's journal"]
    ),
    "a storage that is another file": Case(
        [CONFIG, GRID, DIR, "--storage=thesis.txt"], ["thesis.txt is no sweep's journal"]
    ),
    "a misspelt metric": Case(
        [CONFIG, DIR, GRID, "--objective=validation_acuracy"],
        ["did you mean 'validation_accuracy'?"],
    ),
    "an empty place in a list": Case(
        [CONFIG, DIR, "--param=optim.learning_rate=0.1,,0.2"], ["'0.1,,0.2' has an empty place"]
    ),
    "a condition without its end": Case(
        [CONFIG, DIR, GRID, "--param=optim.momentum=0.8,0.9 if "], ["if FIELD=VALUE"]
    ),
    "a damaged manifest": Case([CONFIG, GRID, "--workdir=torn"], ["torn/manifest.json is damaged"]),
    "a directory below a file": Case([CONFIG, GRID, "--workdir=file/new"], ["file/new", "be made"]),
}
TRAIN = ["--", "experiments.train", CONFIG]
SLURM = {
    "no directory": Case(TRAIN, ["--workdir=DIR is missing"]),
    "nothing to run": Case([DIR], ["what to run is missing", "-- experiments.train"]),
    "another command": Case([DIR, "--", "rm", "-r"], ["'rm' is none of experiments.train"]),
    "a directory inside": Case([DIR, *TRAIN, "--workdir=x"], ["--workdir belongs before"]),
    "wrong training input": Case([DIR, *TRAIN, "--config.optm=3"], ["unknown config field 'optm'"]),
    "a sweep of nothing": Case([DIR, "--", "launch.sweep", CONFIG], ["nothing to sweep"]),
    "a sweep of an unknown field": Case(
        [DIR, "--", "launch.sweep", CONFIG, "--param=optm.name=sgd"],
        ["unknown config field 'optm.name'"],
    ),
    "a command that trains nothing": Case([DIR, *TRAIN, "--check"], ["--check trains nothing"]),
    "hours without end": Case([DIR, "--hours=nan", *TRAIN], ["--hours=nan", "above 0"]),
    "no memory": Case([DIR, "--memory=0", *TRAIN], ["--memory=0", "above 0"]),
    "no Slurm": Case([DIR, *TRAIN], ["no Slurm here", "--cluster=local"]),
}
POD = ["--name=vgg", "--image=registry/cnn_jax", "--claim=runs"]
KUBERNETES = {
    "no name": Case(TRAIN, ["--name=NAME is missing"]),
    "a name it can't have": Case(["--name=VGG_16", *POD[1:], *TRAIN], ["VGG_16", "a-z"]),
    "no image": Case(["--name=vgg", "--claim=runs", *TRAIN], ["--image=IMAGE is missing"]),
    "no volume": Case(["--name=vgg", "--image=x", *TRAIN], ["--claim=NAME is missing"]),
    "two kinds of device": Case([*POD, "--gpus=1", "--tpus=4", *TRAIN], ["both given"]),
    "chips of no kind": Case([*POD, "--tpus=4", *TRAIN], ["--tpu_type and --topology"]),
    "no quantity": Case([*POD, "--memory=lots", *TRAIN], ["--memory=lots", "as 16Gi"]),
    "a claim it can't have": Case([*POD[:2], "--claim=Runs_X", *TRAIN], ["--claim=Runs_X", "a-z"]),
    "a kind of no GPU": Case([*POD, "--gpu_type=nvidia-l4", *TRAIN], ["needs --gpus"]),
    "a selector without a value": Case([*POD, "--node_selector=x", *TRAIN], ["LABEL=VALUE"]),
    "no kubectl": Case([*POD, *TRAIN], ["kubectl is not found", "--dry_run"]),
}
VM = ["--name=vgg", "--zone=us-west4-a", "--bucket=gs://mine/runs"]
TPU = {
    "no zone": Case(["--name=vgg", *TRAIN], ["--zone is missing"]),
    "no bucket": Case(["--name=v", "--zone=z", "--bucket=mine", *TRAIN], ["begins with gs://"]),
    "no name of a bucket": Case(
        ["--name=v", "--zone=z", "--bucket=gs://", *TRAIN], ["begins with gs://NAME"]
    ),
    "nothing to run": Case(VM, ["what to run is missing"]),
}
COMMANDS = {"sweep": SWEEP, "slurm": SLURM, "kubernetes": KUBERNETES, "tpu": TPU}


@pytest.fixture(scope="module")
def answers(fake_place):
    """What every command said to every command line, and what changed on disk meanwhile."""
    (fake_place / "file").touch()
    (fake_place / "fails.py").write_text("def space(trial):\n    return {}['x']\n")
    (fake_place / "none_in.py").write_text("x = 1\n")
    for name, file in (("taken", "trials"), ("torn", "manifest.json")):
        (fake_place / name).mkdir()
        (fake_place / name / file).write_text('{"x')
    (fake_place / "full" / "trials.csv").mkdir(parents=True)
    (fake_place / "diary").mkdir()
    (fake_place / "diary" / "journal.log").write_text("my only copy\nand its end")
    (fake_place / "thesis.txt").write_text("my only copy\nand its end")
    (fake_place / "exits.py").write_text("raise SystemExit(3)\n")
    (fake_place / "tuples.py").write_text(
        "def space(trial):\n    trial.suggest_categorical('optim.milestones', [(0.5,), (0.3,)])\n"
    )
    before = contents(fake_place)
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.fspath(fake_place / "nothing"))
        for name, cases in COMMANDS.items():
            lines = [case.arguments for case in cases.values()]
            said[name] = dict(zip(cases, run_all(name, lines, cwd=fake_place), strict=True))
    return said, before, contents(fake_place)


@pytest.mark.parametrize(
    ("command", "case"), [(name, case) for name, cases in COMMANDS.items() for case in cases]
)
def test_one_clear_line_and_exit_code_2(answers, command, case):
    answer = answers[0][command][case]
    assert answer.code == 2, answer.err
    assert answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("error: ")
    for part in COMMANDS[command][case].says:
        assert part in line


def test_nothing_was_written(answers):
    _, before, after = answers
    assert all("__pycache__" in path.parts for path in after.keys() - before.keys())
