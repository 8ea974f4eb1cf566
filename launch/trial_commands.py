"""The training commands of a group of trials, and the runs that each makes.

A sweep asks for points and trains each with several seeds. A command trains one of these runs, or
several as a population.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_jax.metric_rows import METRICS, read_rows
from launch.command_line import LaunchError
from launch.objectives import Objective
from launch.together import Group, population_flags
from launch.training import field_flags, read_result
from launch.trials import Point, Settings


class Diverged(LaunchError):
    """A run among others has come to an end before its time."""


@dataclass(frozen=True)
class Member:
    """One run of a job: a point with a seed, and the run directory that it leaves.

    `number` is its own in a population, None if it is alone.
    """

    point: Point
    seed: int
    directory: Path
    number: int | None = None


@dataclass(frozen=True)
class Job:
    """One training command, and the runs it makes; `runs` also counts those nobody waits for."""

    arguments: tuple[str, ...]
    workdir: Path
    log: Path
    members: tuple[Member, ...]
    runs: int = 1


def plan(points: Sequence[Point], settings: Settings) -> list[Job]:
    """Returns the commands that train all seeds of a group's points, in the order to run them.

    Some of the group may be missing; then the commands have been run, or are not those to run.
    """
    group = points[0].group
    return [_job(points, seeds, settings, group) for seeds in group.seeds]


def _job(points: Sequence[Point], seeds: tuple[int, ...], settings: Settings, group: Group) -> Job:
    if len(group.homes) * len(seeds) == 1:
        return _alone(points[0], seeds[0], settings)
    name, part = f"{group.homes[0]:04d}", f"together_{seeds[0]}"
    workdir = settings.workdir / "trials" / name / part
    numbers = [settings.variable.numbers(point.fields) for point in points]
    return Job(
        (
            *settings.arguments,
            *field_flags({**points[0].fields, "seed": seeds[0]}),
            *population_flags(numbers, len(seeds)),
        ),
        workdir,
        settings.workdir / "logs" / f"{name}_{part}.log",
        tuple(
            Member(point, seed, workdir / "members" / f"{number:03d}", number)
            for point in points
            for number, seed in enumerate(seeds, len(seeds) * group.homes.index(point.home))
        ),
        len(group.homes) * len(seeds),
    )


def _alone(point: Point, seed: int, settings: Settings) -> Job:
    name = f"{point.home:04d}"
    workdir = settings.workdir / "trials" / name / f"seed_{seed}"
    return Job(
        (*settings.arguments, *field_flags({**point.fields, "seed": seed})),
        workdir,
        settings.workdir / "logs" / f"{name}_seed_{seed}.log",
        (Member(point, seed, workdir),),
    )


def rows_so_far(job: Job) -> list[list[dict[str, float]]]:
    """Returns the metric rows of each of a job's runs, in the order of its members."""
    rows = read_rows(job.workdir / METRICS)
    return [_own(rows, member.number) for member in job.members]


def _own(rows: list[dict[str, Any]], number: int | None) -> list[dict[str, float]]:
    """Returns the rows of a run alone, or those of one member in a population's."""
    if number is None:
        return rows
    return [
        {"step": row["step"], "epoch": row["epoch"], **own}
        for row in rows
        if (own := row["members"][number])
    ]


def record(job: Job, member: Member, objectives: Sequence[Objective]) -> dict[str, Any]:
    """Returns what a run of a finished job has reached.

    Raises:
      Diverged: it has not come to its end.
      LaunchError: it has not measured an objective.
    """
    rows, result = read_rows(member.directory / METRICS), read_result(member.directory)
    if result.get("ended") == "diverged":
        raise Diverged(f"seed {member.seed} diverged at step {result['steps']}: see {job.log.name}")
    return {
        "seed": member.seed,
        "directory": str(member.directory),
        **{each.name: each.value(rows, result) for each in objectives},
        "test_accuracy": result.get("test_accuracy"),
        "seconds": sum(result.get("seconds", {}).values()) / job.runs,
    }


def trained_config(member: Member) -> dict[str, Any]:
    """Returns the complete config that a run has been trained with."""
    return json.loads((member.directory / "config.json").read_text(encoding="utf-8"))
