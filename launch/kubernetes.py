"""Renders training runs or a sweep as Kubernetes JobSets, and hands them to kubectl.

    python -m launch.kubernetes --name=vgg --image=REGISTRY/cnn_jax:cuda --claim=runs
        [--gpus=1 --gpu_type=nvidia-l4 | --tpus=4 --tpu_type=tpu-v5-lite-podslice --topology=2x2]
        [--tasks=5] [--dry_run] -- experiments.train --config=vgg_cifar

--dry_run prints the manifest and applies nothing. The image is that of launch/Dockerfile; the claim
is a persistent volume that all pods can mount, where the runs lie in a directory called --name.
Several tasks of `experiments.train` are as many seeds, of `launch.sweep` as many machines that
share one sweep. A pod that is evicted or stopped (exit code 75) is replaced and goes on from its
checkpoint; wrong input (exit code 2) ends its job at once. What was applied is in launched/NAME.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from absl import flags

from launch import command_line
from launch.cluster_commands import task_commands
from launch.command_line import STOPPED, WRONG_INPUT, LaunchError
from launch.manifest import read_manifest, write_manifest

_NAME = flags.DEFINE_string("name", None, "of the JobSet and of the directory on the volume")
_IMAGE = flags.DEFINE_string("image", None, "what launch/Dockerfile builds")
_CLAIM = flags.DEFINE_string("claim", None, "persistent volume claim for runs and data")
_TASKS = flags.DEFINE_integer("tasks", 1, "seeds, or machines of a sweep", lower_bound=1)
_NAMESPACE = flags.DEFINE_string("namespace", None, "kubectl's own by default")
_GPUS = flags.DEFINE_integer("gpus", 0, "of each pod", lower_bound=0)
_GPU_TYPE = flags.DEFINE_string("gpu_type", None, "GKE accelerator, such as nvidia-l4")
_TPUS = flags.DEFINE_integer("tpus", 0, "chips of each pod", lower_bound=0)
_TPU_TYPE = flags.DEFINE_string("tpu_type", None, "GKE accelerator, tpu-v5-lite-podslice")
_TOPOLOGY = flags.DEFINE_string("topology", None, "of the chips: 2x2")
_SELECT = flags.DEFINE_multi_string("node_selector", [], "LABEL=VALUE of the nodes; any number")
_CPUS = flags.DEFINE_integer("cpus", 4, "of each pod", lower_bound=1)
_MEMORY = flags.DEFINE_string("memory", "16Gi", "of each pod")
flags.register_validator(
    _MEMORY, re.compile(r"\d+(\.\d+)?([kMGTP]|[KMGTP]i)?").fullmatch, "it is a quantity, as 16Gi"
)
for _flag in (_CLAIM, _NAMESPACE):
    flags.register_validator(
        _flag,
        lambda name: not name or re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", name),
        "Kubernetes' names have a-z, 0-9 and -",
    )
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "print the manifest, apply nothing")

_MOUNT = PurePosixPath("/runs")
_GRACE = 120  # seconds a pod has to save a checkpoint
_GPU_LABEL = "cloud.google.com/gke-accelerator"
_TPU_LABEL, _TOPOLOGY_LABEL = (
    "cloud.google.com/gke-tpu-accelerator",
    "cloud.google.com/gke-tpu-topology",
)


@dataclass(frozen=True)
class Pod:
    """What each pod is given."""

    image: str
    claim: str
    resources: Mapping[str, str | int] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[str] = ()  # taints by key


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    name, pod = check_name(_NAME.value), pod_of_flags()
    commands = task_commands(argv[1:], _MOUNT / name, _TASKS.value)
    sets = render(name, commands, pod, namespace=_NAMESPACE.value)
    text = yaml.safe_dump_all(sets, sort_keys=False, width=1000)
    if _DRY_RUN.value:
        print(text, end="")
        return
    record = Path("launched") / name
    read_manifest(record)  # a damaged one is told of before anything is submitted
    apply(text)
    record.mkdir(parents=True, exist_ok=True)
    (record / "jobset.yaml").write_text(text, encoding="utf-8")
    names = [each["metadata"]["name"] for each in sets]
    write_manifest(record, sys.argv, jobsets=names, namespace=_NAMESPACE.value)
    print(json.dumps({"jobsets": names, "record": str(record)}))


def apply(text: str) -> None:
    """Hands a manifest to kubectl.

    Raises:
      LaunchError: there is no kubectl, or it refuses.
    """
    command = ["kubectl", "apply", "-f", "-"]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LaunchError("kubectl is not found; install it, or see --dry_run") from error
    if done.returncode:
        raise LaunchError(f"kubectl apply: {done.stderr.strip() or done.stdout.strip()}")
    print(done.stdout, end="", file=sys.stderr)


def check_name(name: str | None) -> str:
    """Returns the name; raises LaunchError unless it is one that Kubernetes takes, with room."""
    if not name:
        raise LaunchError("--name=NAME is missing: of the JobSet and its directory")
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", name):
        raise LaunchError(
            f"--name={name}: Kubernetes takes at most 40 of a-z, 0-9 and -, from a letter on"
        )
    return name


def pod_of_flags() -> Pod:
    """Returns what the command line says of the pods.

    Raises:
      LaunchError: something is missing, or doesn't fit together.
    """
    if not _IMAGE.value:
        raise LaunchError("--image=IMAGE is missing: what launch/Dockerfile builds, in a registry")
    if not _CLAIM.value:
        raise LaunchError("--claim=NAME is missing: the persistent volume claim for the runs")
    if _GPUS.value and _TPUS.value:
        raise LaunchError("--gpus and --tpus are both given; a pod has one kind")
    for kind, count in ((_GPU_TYPE, _GPUS), (_TPU_TYPE, _TPUS), (_TOPOLOGY, _TPUS)):
        if kind.value and not count.value:
            raise LaunchError(f"--{kind.name}={kind.value} needs --{count.name}, how many")
    if _TPUS.value and not (_TPU_TYPE.value and _TOPOLOGY.value):
        raise LaunchError(
            "--tpus needs --tpu_type and --topology, such as tpu-v5-lite-podslice and 2x2"
        )
    selector = {}
    for text in _SELECT.value:
        label, equals, value = text.partition("=")
        if not (label and equals):
            raise LaunchError(f"--node_selector={text} is not of the form LABEL=VALUE")
        selector[label] = value
    named = {_GPU_LABEL: _GPU_TYPE, _TPU_LABEL: _TPU_TYPE, _TOPOLOGY_LABEL: _TOPOLOGY}
    selector |= {label: flag.value for label, flag in named.items() if flag.value}
    devices = {"nvidia.com/gpu": _GPUS.value, "google.com/tpu": _TPUS.value}
    devices = {kind: count for kind, count in devices.items() if count}
    resources = {"cpu": _CPUS.value, "memory": _MEMORY.value, **devices}
    return Pod(_IMAGE.value, _CLAIM.value, resources, selector, list(devices))


def render(
    name: str, commands: Sequence[Sequence[str]], pod: Pod, *, namespace: str | None = None
) -> list[dict[str, Any]]:
    """Returns the JobSets that run these commands; equal ones are replicas in one of them.

    Different commands get a set each, since a job that fails ends its set. The form is
    jobset.x-k8s.io/v1alpha2 with batch/v1 job templates.
    """
    kinds = Counter(map(tuple, commands))
    return [
        {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {
                "name": name if len(kinds) == 1 else f"{name}-{i}",
                **({"namespace": namespace} if namespace else {}),
                "labels": {"app.kubernetes.io/name": "cnn-jax", "app.kubernetes.io/instance": name},
            },
            "spec": {
                "replicatedJobs": [
                    {"name": "run", "replicas": count, "template": {"spec": _job(command, pod)}}
                ],
                "failurePolicy": {"maxRestarts": 0},
            },
        }
        for i, (command, count) in enumerate(kinds.items())
    ]


def _job(command: Sequence[str], pod: Pod) -> dict[str, Any]:
    stopped = {"operator": "In", "values": [STOPPED]}
    wrong = {"operator": "In", "values": [WRONG_INPUT]}
    evicted = [{"type": "DisruptionTarget", "status": "True"}]
    return {
        "parallelism": 1,
        "completions": 1,
        "backoffLimit": 3,
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onExitCodes": wrong},
                {"action": "Ignore", "onExitCodes": stopped},
                {"action": "Ignore", "onPodConditions": evicted},
            ]
        },
        "template": {"spec": _pod(command, pod)},
    }


def _pod(command: Sequence[str], pod: Pod) -> dict[str, Any]:
    container = {
        "name": "cnn-jax",
        "image": pod.image,
        "command": list(command),
        "env": [{"name": "TFDS_DATA_DIR", "value": str(_MOUNT / "data")}],
        "resources": {"requests": dict(pod.resources), "limits": dict(pod.resources)},
        "volumeMounts": [{"name": "runs", "mountPath": str(_MOUNT)}],
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    user = 1000  # of the image
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE,
        "securityContext": {"runAsNonRoot": True, "runAsUser": user, "fsGroup": user},
        "nodeSelector": dict(pod.node_selector),
        "tolerations": [
            {"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in pod.tolerations
        ],
        "containers": [container],
        "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": pod.claim}}],
    }


if __name__ == "__main__":
    command_line.run(main)
