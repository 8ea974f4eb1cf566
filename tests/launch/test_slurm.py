"""Jobs through submitit: its local executor runs them, a fake scontrol requeues them."""

import json
import shlex
import threading

import pytest

from launch.manifest import MANIFEST
from launch.slurm_task import Task
from tests.launch.command import run_all

TRAIN = ["--", "experiments.train", "--config=mine"]


def _command(place, name, *more):
    words = ["python", "-m", "experiments.train", "--config=mine", f"--config.model.name={name}"]
    return [*words, *more, f"--workdir={place / name}"]


def test_a_dry_run_prints_parameters_and_commands(fake_place):
    line = ["--workdir=out", "--gpus=2", "--hours=1.5", "--tasks=2", "--dry_run"]
    (answer,) = run_all("slurm", [[*line, *TRAIN]], cwd=fake_place)
    assert answer.code == 0, answer.err
    parameters, commands = answer.out.rpartition("}\n")[0] + "}", answer.out.rpartition("}\n")[2]
    wanted = json.loads(parameters)["parameters"]
    assert (wanted["gpus_per_node"], wanted["timeout_min"]) == (2, 90)
    for seed, command in enumerate(commands.splitlines()):
        words = shlex.split(command)
        assert words[:4] == ["python", "-m", "experiments.train", "--config=mine"]
        assert words[4:] == [
            f"--config.seed={seed}",
            f"--workdir={fake_place / 'out' / f'seed_{seed}'}",
        ]
    assert not (fake_place / "out").exists()


def test_an_array_of_seeds_runs_on_the_local_executor(fake_place):
    line = ["--workdir=out", "--cluster=local", "--tasks=2", *TRAIN, "--config.model.name=ends75"]
    (answer,) = run_all("slurm", [line], cwd=fake_place)
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    (entry,) = json.loads((fake_place / "out" / MANIFEST).read_text())
    assert entry["jobs"] == told["jobs"] and entry["cluster"] == "local"
    assert "--cluster=local" in entry["command"] and entry["time"]
    results = [fake_place / f"out/seed_{seed}/result.json" for seed in range(2)]
    while not all(path.exists() and path.read_text() for path in results):
        pass
    for seed, path in enumerate(results):
        assert json.loads(path.read_text())["seed"] == seed
        assert len((path.parent / "starts").read_text().splitlines()) == 2  # stopped, run again
    assert list((fake_place / "out/slurm").glob("*_log.err"))


@pytest.mark.parametrize("tasks", [1, 2])
def test_what_slurm_refuses_is_one_line(fake_place, monkeypatch, tasks):
    bin_dir = fake_place / f"bin{tasks}"
    bin_dir.mkdir()
    for name in "srun", "sbatch":
        (bin_dir / name).write_text("#!/bin/sh\necho 'sbatch: error: no partition x' >&2\nexit 1\n")
        (bin_dir / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_dir), prepend=":")
    line = ["--workdir=refused", "--partition=x", f"--tasks={tasks}", *TRAIN]
    (answer,) = run_all("slurm", [line], cwd=fake_place)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: Slurm refuses: sbatch: error: no partition x\n"
    assert not (fake_place / "refused" / MANIFEST).exists()


def test_on_slurm_a_stopped_command_is_requeued_and_goes_on(fake_train, monkeypatch):
    bin_dir = fake_train / "bin"
    bin_dir.mkdir()
    (bin_dir / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {fake_train}/asked\n')
    (bin_dir / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_dir), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    task = Task(_command(fake_train, "ends75"))
    with pytest.raises(SystemExit) as ended:
        task()
    assert ended.value.code == 75
    assert (fake_train / "asked").read_text() == "requeue 12_3\n"
    task()
    assert json.loads((fake_train / "ends75/result.json").read_text())["resumed_from_step"] == 1


def test_when_its_time_is_over_the_command_saves_and_the_job_starts_again(fake_train):
    task = Task(_command(fake_train, "waits"))
    requeued = []

    def when_running():
        """In place of the signal that submitit turns into this call."""
        while not (fake_train / "waits/metrics.jsonl").exists():
            pass
        requeued.append(task.checkpoint())

    thread = threading.Thread(target=when_running)
    thread.start()
    task()  # stopped once, it goes on: no Slurm here
    thread.join()
    assert requeued[0].function.command == task.command
    assert (fake_train / "waits/result.json").exists()


def test_a_command_that_fails_fails_its_job(fake_train):
    with pytest.raises(RuntimeError, match="ended with code 1"):
        Task(_command(fake_train, "fails"))()
