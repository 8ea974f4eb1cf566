"""Submits training runs or a sweep to a Slurm cluster, through submitit.

    python -m launch.slurm --workdir=DIR [--tasks=5] [--partition=gpu] [--gpus=1] [--hours=12]
        [--dry_run] -- experiments.train --config=vgg_cifar

Several tasks are a job array: of `experiments.train` as many seeds (`launch.seeds` with the same
DIR states their mean), of `launch.sweep` as many machines that share one sweep. A job whose time is
over, or that is preempted, saves a checkpoint and is requeued. DIR must be on a file system that
all nodes share; logs are in DIR/slurm, what was submitted in DIR/manifest.json. --cluster=local
runs the same on this machine.
"""

import contextlib
import io
import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from absl import flags
from submitit.core.utils import FailedJobError

from launch import command_line
from launch.cluster_commands import task_commands
from launch.command_line import LaunchError
from launch.manifest import read_manifest, write_manifest
from launch.slurm_task import Task

_WORKDIR = flags.DEFINE_string("workdir", None, "where runs and logs go; all nodes see it")
_TASKS = flags.DEFINE_integer("tasks", 1, "jobs in the array", lower_bound=1)
_AT_A_TIME = flags.DEFINE_integer("at_a_time", 256, "jobs that run at once", lower_bound=1)
_PARTITION = flags.DEFINE_string("partition", None, "the cluster's own by default")
_ACCOUNT = flags.DEFINE_string("account", None, "who pays")
_GPUS = flags.DEFINE_integer("gpus", 0, "of a job", lower_bound=0)
_CPUS = flags.DEFINE_integer("cpus", 4, "of a job", lower_bound=1)
_MEMORY = flags.DEFINE_float("memory", None, "of a job, GB", lower_bound=0.0)
_HOURS = flags.DEFINE_float("hours", 4.0, "of a job, until it is requeued", lower_bound=0.05)
for _name in ("memory", "hours"):
    flags.register_validator(
        _name, lambda value: value is None or 0 < value < math.inf, "it must be a number above 0"
    )
_REQUEUES = flags.DEFINE_integer("requeues", 100, "of a job, at most", lower_bound=0)
_CONSTRAINT = flags.DEFINE_string("constraint", None, "on the nodes, such as a100")
_CLUSTER = flags.DEFINE_enum("cluster", "slurm", ["slurm", "local"], "local: on this machine")
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "print what would be submitted")


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    if _WORKDIR.value is None:
        raise LaunchError("--workdir=DIR is missing: where runs and logs go")
    workdir = Path(_WORKDIR.value).absolute()
    commands = task_commands(argv[1:], workdir, _TASKS.value)
    options = parameters()
    if _DRY_RUN.value:
        print(json.dumps({"cluster": _CLUSTER.value, "parameters": options}, indent=2))
        print("\n".join(shlex.join(command) for command in commands))
        return
    read_manifest(workdir)  # a damaged one is told of before anything is submitted
    jobs = submit(commands, workdir, options, cluster=_CLUSTER.value, requeues=_REQUEUES.value)
    ids = [each.job_id for each in jobs]
    write_manifest(workdir, sys.argv, cluster=_CLUSTER.value, jobs=ids)
    print(json.dumps({"jobs": ids, "logs": str(workdir / "slurm")}))


def parameters() -> dict[str, Any]:
    """Returns what the command line asks of the cluster, in submitit's words."""
    wanted = {
        "name": "cnn_jax",
        "timeout_min": round(60 * _HOURS.value),
        "cpus_per_task": _CPUS.value,
        "gpus_per_node": _GPUS.value or None,
        "mem_gb": _MEMORY.value,
        "slurm_partition": _PARTITION.value,
        "slurm_account": _ACCOUNT.value,
        "slurm_constraint": _CONSTRAINT.value,
        "slurm_array_parallelism": _AT_A_TIME.value,
        "slurm_signal_delay_s": 120,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def submit(
    commands: Sequence[Sequence[str]],
    workdir: Path,
    options: dict[str, Any],
    *,
    cluster: str,
    requeues: int = 100,
) -> list[submitit.Job]:
    """Submits a job for each command, as one array if there are several.

    Raises:
      LaunchError: there is no Slurm here, it refuses, or the directory can't be made.
    """
    try:
        executor = submitit.AutoExecutor(
            workdir / "slurm", cluster=cluster, slurm_max_num_timeout=requeues
        )
    except OSError as error:
        raise LaunchError(f"{workdir} can't be used: {error.strerror}") from error
    except RuntimeError as error:
        raise LaunchError(
            f"no Slurm here ({error}); run this on a login node, or with --dry_run or "
            "--cluster=local"
        ) from error
    executor.update_parameters(**options)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # where submitit prints the error, too
            if len(commands) == 1:
                return [executor.submit(Task(commands[0]))]
            with executor.batch():
                return [executor.submit(Task(command)) for command in commands]
    except FailedJobError as error:
        raise LaunchError(f"Slurm refuses: {error}") from error


if __name__ == "__main__":
    command_line.run(main)
