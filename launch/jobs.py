"""Which runs share a training command: the one place that decides it.

A sweep asks for points and trains each with several seeds. Here every run has its own command.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.objectives import Objective
from launch.training import field_flags, read_result, read_rows
from launch.trials import Point, Settings


@dataclass(frozen=True)
class Member:
    """One run of a job: a point with a seed, and the run directory that it leaves."""

    point: Point
    seed: int
    directory: Path


@dataclass(frozen=True)
class Job:
    """One training command, and the runs it makes."""

    arguments: tuple[str, ...]
    workdir: Path
    log: Path
    members: tuple[Member, ...]


def plan(points: Sequence[Point], settings: Settings) -> list[Job]:
    """Returns the commands that train all seeds of all points, in the order to run them.

    Points that are asked for together may be trained together, by one command that makes several
    runs; a trial is pruned by its first seed alone, so that comes first.
    """
    first = settings.config["seed"]
    return [_alone(point, first + i, settings) for i in range(settings.seeds) for point in points]


def _alone(point: Point, seed: int, settings: Settings) -> Job:
    name = f"{point.home:04d}"
    workdir = settings.workdir / "trials" / name / f"seed_{seed}"
    return Job(
        (*settings.arguments, *field_flags({**point.fields, "seed": seed})),
        workdir,
        settings.workdir / "logs" / f"{name}_seed_{seed}.log",
        (Member(point, seed, workdir),),
    )


def record(job: Job, member: Member, objectives: Sequence[Objective]) -> dict[str, Any]:
    """Returns what a run of a finished job has reached.

    Raises:
      LaunchError: it has not measured an objective.
    """
    rows, result = read_rows(member.directory), read_result(member.directory)
    return {
        "seed": member.seed,
        "directory": str(member.directory),
        **{each.name: each.value(rows, result) for each in objectives},
        "test_accuracy": result.get("test_accuracy"),
        "seconds": sum(result.get("seconds", {}).values()) / len(job.members),
    }


def trained_config(member: Member) -> dict[str, Any]:
    """Returns the complete config that a run has been trained with."""
    return json.loads((member.directory / "config.json").read_text(encoding="utf-8"))
