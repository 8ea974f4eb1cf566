"""The sweep command, through the real command line."""

import csv
import json
import os
import signal

import pytest

from tests.experiments.command import finish
from tests.experiments.command import run_all as train
from tests.launch.command import run_all, start

FAKE = ["--config=mine", "--param=optim.learning_rate=0.1,0.2", "--workdir=sweep"]
REAL = [
    "--config=lenet_digits",
    "--param=optim.learning_rate=1e-5,0.03",
    "--seeds=2",
    "--workdir=sweep",
    "--config.train.steps=20",
    "--config.train.eval_every=10",
    "--config.data.batch_size=32",
    "--config.optim.name=sgd",  # with less to compile
    "--config.train.pictures=false",
    "--config.data.augment.crop_padding=0",
]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    place = tmp_path_factory.mktemp("real")
    answer = finish(start("sweep", *REAL, cwd=place))
    assert answer.code == 0, answer.err
    return place, answer


def test_a_real_sweep_finds_the_better_rate_by_the_validation_split(real):
    place, answer = real
    told = json.loads(answer.out)
    assert (told["trials"], told["complete"]) == (2, 2)
    (best,) = told["best"]
    assert best["fields"] == {"optim.learning_rate": 0.03}
    with open(place / "sweep/trials.csv") as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        pair = [_member(place, 2 * i + seed)["best_validation"]["accuracy"] for seed in range(2)]
        assert float(row["validation_accuracy"]) == pytest.approx(sum(pair) / 2)
    first, *others = answer.err.splitlines()
    assert first == "trials 0, 1: 4 runs are trained together in trials/0000/together_0"
    assert len(others) == 2


def _member(place, number):
    path = place / f"sweep/trials/0000/together_0/members/{number:03d}/result.json"
    return json.loads(path.read_text())


def test_its_best_config_is_one_that_the_training_command_takes(real):
    place, _ = real
    (answer,) = train("train", [["--config=sweep/best.json", "--check"]], cwd=place)
    assert answer.code == 0, answer.err
    config = json.loads(answer.out)
    assert config == json.loads((place / "sweep/best.json").read_text())
    assert (config["optim"]["learning_rate"], config["train"]["steps"]) == (0.03, 20)


def test_a_run_of_it_comes_to_what_its_config_comes_to_alone(real):
    place, _ = real
    (answer,) = train("train", [["--config=sweep/best.json", "--workdir=alone"]], cwd=place)
    assert answer.code == 0, answer.err
    alone = json.loads((place / "alone/result.json").read_text())
    together = _member(place, 2)  # the second rate's first seed
    assert alone["seed"] == together["seed"] == 0
    for name in ("test_accuracy", "test_loss"):
        assert together[name] == pytest.approx(alone[name], abs=1e-4)
    assert together["best_validation"] == pytest.approx(alone["best_validation"], abs=1e-4)


def test_its_page_needs_nothing_but_itself(real):
    page = (real[0] / "sweep/sweep.html").read_text()
    assert "optim.learning_rate" in page and "Importance" in page
    assert "src='data:image/png;base64," in page
    assert not any(word in page for word in ("http://", "https://", "<script", "<link"))


def test_started_again_nothing_is_trained(real):
    place, first = real
    before = {path: path.stat().st_mtime_ns for path in place.rglob("result.json")}
    (again,) = run_all("sweep", [REAL], cwd=place)
    assert again.code == 0, again.err
    assert (json.loads(again.out), again.err) == (json.loads(first.out), "")
    assert {path: path.stat().st_mtime_ns for path in place.rglob("result.json")} == before
    manifest = json.loads((place / "sweep/manifest.json").read_text())
    assert [entry["command"].split()[:3] for entry in manifest] == [
        ["python", "-m", "launch.sweep"]
    ] * 2


def test_ctrl_c_saves_and_the_same_command_goes_on(fake_place):
    line = [*FAKE, "--config.model.name=waits", "--workers=1"]
    process = start("sweep", *line, cwd=fake_place)
    while not list(fake_place.rglob("metrics.jsonl")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    stopped = finish(process)
    assert stopped.code == 75, stopped.err
    assert "the same command goes on" in stopped.err
    told = json.loads(stopped.out)
    assert (told["waiting"], told["complete"]) == (2, 0)


def test_what_always_fails_is_one_line_with_the_reason(fake_place):
    line = [FAKE[0], "--param=optim.learning_rate=log:0.1:1", "--trials=9", "--workdir=failing"]
    (answer,) = run_all("sweep", [[*line, "--config.model.name=fails"]], cwd=fake_place)
    assert (answer.code, answer.out) == (2, "")
    last = answer.err.splitlines()[-1]
    assert last.startswith("error: 3 trials in a row failed at once: there is no data in DIR")
    assert "the same command goes on" in last


def test_workers_are_held_to_cores_of_their_own(fake_place):
    line = [*FAKE[:2], "--workdir=pinned", "--workers=2"]
    (answer,) = run_all("sweep", [line], cwd=fake_place)
    if "there is 1 core" in answer.err or not hasattr(os, "sched_getaffinity"):
        pytest.skip("needs two cores, and a system that can hold processes to them")
    assert answer.code == 0, answer.err
    cores = [path.read_text().split() for path in (fake_place / "pinned").rglob("starts")]
    assert len(cores) == 2 and not set(cores[0]) & set(cores[1])


def test_together_says_how_many_runs_share_a_command(fake_place):
    (answer,) = run_all("sweep", [[*FAKE[:2], "--workdir=alone", "--together=1"]], cwd=fake_place)
    assert answer.code == 0, answer.err
    assert "together" not in answer.err
    assert (fake_place / "alone/trials/0001/seed_0").exists()


def test_a_space_in_a_file(fake_place):
    (fake_place / "space.py").write_text(
        "def space(trial):\n    trial.suggest_float('optim.learning_rate', 0.1, 0.3, step=0.1)\n"
    )
    (answer,) = run_all(
        "sweep", [[FAKE[0], "--space=space.py", "--workdir=by_file"]], cwd=fake_place
    )
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["best"][0]["fields"] == {"optim.learning_rate": 0.3}
