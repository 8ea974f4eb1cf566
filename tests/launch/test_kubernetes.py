"""JobSets hold what was asked for, in the form that the API server takes."""

import json
from pathlib import Path

import pytest
import yaml

from launch.manifest import MANIFEST
from tests.launch.command import run_all

jsonschema = pytest.importorskip("jsonschema")
SCHEMA = json.loads(Path(__file__).with_name("jobset.schema.json").read_text())
POD = ["spec", "replicatedJobs", 0, "template", "spec", "template", "spec"]
ALWAYS = ["--name=vgg", "--image=registry/cnn_jax:cuda", "--claim=runs"]
TRAIN = ["--", "experiments.train", "--config=mine"]
GPU = ["--gpus=2", "--gpu_type=nvidia-l4"]
TPU = ["--tpus=4", "--tpu_type=tpu-v5-lite-podslice", "--topology=2x2", "--namespace=research"]
LINES = {
    "cpu": [*ALWAYS, "--dry_run", *TRAIN],
    "gpu": [*ALWAYS, *GPU, "--tasks=2", "--dry_run", *TRAIN],
    "tpu": [*ALWAYS, *TPU, "--node_selector=pool=a", "--dry_run", *TRAIN],
    "sweep": [
        *ALWAYS,
        "--tasks=3",
        "--dry_run",
        "--",
        "launch.sweep",
        "--config=mine",
        "--param=optim.learning_rate=0.1,0.2",
    ],
    "applied": [*ALWAYS, *TRAIN],
}


@pytest.fixture(scope="module")
def answers(fake_place):
    (fake_place / "bin").mkdir()
    kubectl = fake_place / "bin" / "kubectl"
    kubectl.write_text(f'#!/bin/sh\necho "$@" > {fake_place}/asked\ncat > {fake_place}/applied\n')
    kubectl.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(kubectl.parent), prepend=":")
        return dict(
            zip(LINES, run_all("kubernetes", list(LINES.values()), cwd=fake_place), strict=True)
        )


def _sets(answers, name):
    assert answers[name].code == 0, answers[name].err
    sets = list(yaml.safe_load_all(answers[name].out))
    for each in sets:
        jsonschema.Draft202012Validator(SCHEMA).validate(each)
    return sets


def _pod(jobset):
    (job,) = jobset["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


def test_the_schema_is_one_and_refuses_what_the_server_would():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid({"kind": "JobSet"})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "replicatedJobs", 0, "replica"], 1),
        (
            ["spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "restartPolicy"],
            "OnFailure",
        ),
        (["metadata", "name"], "VGG"),
        (["apiVersion"], "jobset.x-k8s.io/v1"),
    ],
)
def test_the_schema_refuses(answers, path, value):
    (jobset,) = _sets(answers, "cpu")
    at = jobset
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(jobset)


def test_gpus_are_asked_for_and_seeds_are_sets_of_their_own(answers):
    sets = _sets(answers, "gpu")
    assert [each["metadata"]["name"] for each in sets] == ["vgg-0", "vgg-1"]
    for seed, jobset in enumerate(sets):
        pod = _pod(jobset)
        assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
        (container,) = pod["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
        assert container["command"][2:] == [
            "experiments.train", "--config=mine", f"--config.seed={seed}",
            f"--workdir=/runs/vgg/seed_{seed}",
        ]  # fmt: skip


def test_tpus_are_asked_for_by_type_and_topology(answers):
    (jobset,) = _sets(answers, "tpu")
    assert jobset["metadata"]["namespace"] == "research"
    pod = _pod(jobset)
    assert pod["nodeSelector"] == {
        "pool": "a",
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "2x2",
    }
    assert pod["containers"][0]["resources"]["limits"]["google.com/tpu"] == 4
    assert pod["containers"][0]["command"][-1] == "--workdir=/runs/vgg"


def test_machines_of_a_sweep_are_replicas(answers):
    (jobset,) = _sets(answers, "sweep")
    assert jobset["spec"]["replicatedJobs"][0]["replicas"] == 3
    assert _pod(jobset)["containers"][0]["command"][2] == "launch.sweep"


def test_a_stopped_pod_is_replaced_and_wrong_input_ends_the_job(answers):
    (jobset,) = _sets(answers, "cpu")
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    rules = {
        tuple(rule["onExitCodes"]["values"]): rule["action"]
        for rule in job["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert rules == {(2,): "FailJob", (75,): "Ignore"}


def test_what_is_applied_is_kept_with_a_manifest(answers, fake_place):
    assert answers["applied"].code == 0, answers["applied"].err
    assert (fake_place / "asked").read_text() == "apply -f -\n"
    kept = fake_place / "launched/vgg"
    assert (kept / "jobset.yaml").read_text() == (fake_place / "applied").read_text()
    assert json.loads((kept / MANIFEST).read_text())[0]["jobsets"] == ["vgg"]
