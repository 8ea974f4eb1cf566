"""Which runs share a training command: the one place that decides it.

A sweep asks for points, a point is trained with several seeds, and each pair of them is a run, or
*member*. Each member has a command of its own here.
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
class Job:
    """One training command and the runs it makes, as pairs of a point and a seed."""

    arguments: tuple[str, ...]
    workdir: Path
    log: Path
    members: tuple[tuple[Point, int], ...]


def plan(points: Sequence[Point], settings: Settings) -> list[Job]:
    """Returns the commands that train all seeds of all points, in the order to run them.

    Points that are asked for together may be trained together, by a command whose result has
    `members`; a trial is pruned by its first seed, so that comes first.
    """
    first = settings.config["seed"]
    return [_job(point, first + i, settings) for i in range(settings.seeds) for point in points]


def _job(point: Point, seed: int, settings: Settings) -> Job:
    name = f"{point.home:04d}"
    return Job(
        (*settings.arguments, *field_flags({**point.fields, "seed": seed})),
        settings.workdir / "trials" / name / f"seed_{seed}",
        settings.workdir / "logs" / f"{name}_seed_{seed}.log",
        ((point, seed),),
    )


def records(job: Job, objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    """Returns what a finished job's runs have reached, one record for each of its members.

    Raises:
      LaunchError: a run has not measured an objective.
    """
    rows, result = read_rows(job.workdir), read_result(job.workdir)
    results = result.get("members", [result])
    return [
        {
            "seed": seed,
            "directory": str(job.workdir),
            **{each.name: each.value(rows, member) for each in objectives},
            "test_accuracy": member.get("test_accuracy"),
            "seconds": sum(result.get("seconds", {}).values()) / len(results),
        }
        for (_, seed), member in zip(job.members, results, strict=True)
    ]


def trained_config(job: Job) -> dict[str, Any]:
    """Returns the complete config that a job has been trained with."""
    return json.loads((job.workdir / "config.json").read_text(encoding="utf-8"))
