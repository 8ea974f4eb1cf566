"""The Cloud TPU script calls gcloud in the right order; a fake one takes the calls down."""

import json
import subprocess

import pytest

from launch.tpu import job_on_the_vm, on_the_vm, script
from tests.launch.command import run_all

LINE = ["--name=vgg", "--zone=us-west4-a", "--bucket=gs://mine/runs/", "--spot"]
TRAIN = ["--", "experiments.train", "--config=mine", "--config.model.name=it's"]


def _call(tmp_path, state, code, *, delete=True):
    """Runs the script with a gcloud that says this state and ends ssh so; returns its calls."""
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(
        f'#!/bin/sh\necho "$4" >> {tmp_path}/calls\n'
        f'[ "$4" = describe ] && echo "{state}"\n[ "$4" = ssh ] && exit {code}\nexit 0\n'
    )
    gcloud.chmod(0o755)
    text = script(
        name="vgg",
        place=["--zone=z"],
        machine=["--accelerator-type=v5litepod-8"],
        kept="gs://mine/runs/vgg",
        command=["python", "-m", "experiments.train"],
        delete=delete,
    )
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return (tmp_path / "calls").read_text().split()


@pytest.mark.parametrize(
    ("state", "code", "calls"),
    [
        ("", 0, ["describe", "create", "scp", "ssh", "delete"]),
        ("READY", 2, ["describe", "scp", "ssh", "delete"]),
        ("PREEMPTED", 0, ["describe", "delete", "create", "scp", "ssh", "delete"]),
        ("READY", 255, ["describe", "scp", "ssh"]),  # the connection was lost: the run goes on
    ],
)
def test_a_vm_is_made_if_there_is_none_and_deleted_at_the_end(tmp_path, state, code, calls):
    assert _call(tmp_path, state, code) == calls


def test_a_vm_may_be_kept(tmp_path):
    assert _call(tmp_path, "READY", 0, delete=False)[-1] == "ssh"


@pytest.mark.parametrize("write", [on_the_vm, job_on_the_vm])
def test_what_runs_on_the_vm_is_bash(write):
    text = write(["python", "-m", "experiments.train", "--config.name=it's"], "gs://mine/runs/vgg")
    done = subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def _program(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def _on_a_vm(place, gcloud):
    """Runs the job where gcloud and the installed programs are fakes; returns its exit code."""
    _program(place / "bin/gcloud", *gcloud)
    for name in (".local/bin/uv", "venv/bin/python"):
        _program(place / name, f'echo "$*" >> {place}/{name.rpartition("/")[2]}')
    (place / "run").mkdir()
    (place / "run/launch.log").touch()
    subprocess.run(["tar", "-czf", "cnn_jax.tar.gz", "-T", "/dev/null"], cwd=place, check=True)
    text = job_on_the_vm(["python", "-m", "experiments.train"], "gs://mine/runs/vgg")
    environment = {"PATH": f"{place}/bin:/usr/bin:/bin", "HOME": str(place)}
    done = subprocess.run(["bash", "-c", text], cwd=place, env=environment, check=False)
    assert (place / "code").read_text() == f"{done.returncode}\n"
    return done.returncode


_EMPTY = '[ "$2" = ls ] && echo "One or more URLs matched no objects." >&2 && exit 1'


@pytest.mark.parametrize(("copied", "code"), [(True, 0), (False, 255)])
def test_a_vm_whose_run_the_bucket_does_not_take_is_not_to_be_deleted(tmp_path, copied, code):
    # What is copied meanwhile may fail; of the last copy all depends.
    assert _on_a_vm(tmp_path, [_EMPTY, f"exit {int(not copied)}"]) == code
    assert (tmp_path / "python").read_text() == "-m experiments.train\n"


def test_a_run_does_not_begin_anew_where_the_bucket_can_not_be_looked_into(tmp_path):
    assert _on_a_vm(tmp_path, ['[ "$2" = ls ] && echo "no permission" >&2 && exit 1']) == 1
    assert not (tmp_path / "python").exists()


def test_a_dry_run_prints_the_script_and_calls_nothing(fake_place):
    (answer,) = run_all("tpu", [[*LINE, "--dry_run", *TRAIN]], cwd=fake_place)
    assert answer.code == 0, answer.err
    assert "--accelerator-type=v5litepod-8" in answer.out and "--spot" in answer.out
    assert "gs://mine/runs/vgg" in answer.out and "experiments.train --config=mine" in answer.out
    subprocess.run(["bash", "-n", "-c", answer.out], check=True)
    assert not (fake_place / "launched").exists()


def test_what_was_run_is_kept_with_a_manifest(fake_place, monkeypatch):
    (fake_place / "gcloud").write_text("#!/bin/sh\nexit 0\n")
    (fake_place / "gcloud").chmod(0o755)
    monkeypatch.setenv("PATH", str(fake_place), prepend=":")
    (answer,) = run_all("tpu", [[*LINE, *TRAIN]], cwd=fake_place)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["runs"] == "gs://mine/runs/vgg"
    (entry,) = json.loads((fake_place / "launched/vgg/manifest.json").read_text())
    assert (entry["tpu"], entry["zone"]) == ("vgg", "us-west4-a")
