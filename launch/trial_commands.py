"""The training commands of a group of trials, and the runs that each command makes.

A trial is a point of the search space, trained with one seed or several. A command trains one of
these runs, or several as a population.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_jax.metric_rows import METRICS, Row, member_rows, read_rows
from launch.command_line import LaunchError
from launch.objectives import Objective
from launch.together import population_flags
from launch.training import field_flags, read_result
from launch.trials import Point, Settings


class Diverged(LaunchError):
    """A run among others has come to an end before its time."""


@dataclass(frozen=True)
class Member:
    """One run of a command: a point with a seed, and the run directory that it leaves.

    `number` is its own in a population, None if it is alone.
    """

    point: Point
    seed: int
    directory: Path
    number: int | None = None


@dataclass(frozen=True)
class Command:
    """One training command, and those of its runs whose trials are open; `runs` counts all."""

    arguments: tuple[str, ...]
    workdir: Path
    log: Path
    members: tuple[Member, ...]
    runs: int


def plan(points: Sequence[Point], settings: Settings) -> list[Command]:
    """Returns the commands that train all seeds of a group's points, in the order to run them.

    Where points of the group are missing, only commands that have been run already are of use.
    """
    return [_command(points, seeds, settings) for seeds in points[0].group.seeds]


def _command(points: Sequence[Point], seeds: tuple[int, ...], settings: Settings) -> Command:
    homes = points[0].group.homes
    runs = len(homes) * len(seeds)
    name, part = f"{homes[0]:04d}", f"{'together' if runs > 1 else 'seed'}_{seeds[0]}"
    workdir = settings.workdir / "trials" / name / part
    flags = field_flags({**points[0].fields, "seed": seeds[0]})
    if runs == 1:
        members = [Member(points[0], seeds[0], workdir)]
    else:
        flags += population_flags(
            [settings.variable.numbers(point.fields) for point in points], len(seeds)
        )
        members = [
            Member(point, seed, workdir / "members" / f"{number:03d}", number)
            for point in points
            for number, seed in enumerate(seeds, len(seeds) * homes.index(point.home))
        ]
    log = settings.workdir / "logs" / f"{name}_{part}.log"
    return Command((*settings.arguments, *flags), workdir, log, tuple(members), runs)


def rows_so_far(command: Command) -> list[list[Row]]:
    """Returns the metric rows of each of a command's runs, in the order of its members."""
    rows = read_rows(command.workdir / METRICS)
    numbers = [member.number for member in command.members]
    return [rows if number is None else member_rows(rows, number) for number in numbers]


def record(command: Command, member: Member, objectives: Sequence[Objective]) -> dict[str, Any]:
    """Returns what a run of a finished command has reached.

    Raises:
      Diverged: it has not come to its end.
      LaunchError: it has not measured an objective.
    """
    rows, result = read_rows(member.directory / METRICS), read_result(member.directory)
    if result.get("ended") == "diverged":
        raise Diverged(
            f"seed {member.seed} diverged at step {result['steps']}: see {command.log.name}"
        )
    return {
        "seed": member.seed,
        "directory": str(member.directory),
        **{each.name: each.value(rows, result) for each in objectives},
        "test_accuracy": result.get("test_accuracy"),
        "seconds": sum(result.get("seconds", {}).values()) / command.runs,
    }


def trained_config(member: Member) -> dict[str, Any]:
    """Returns the complete config that a run has been trained with."""
    return json.loads((member.directory / "config.json").read_text(encoding="utf-8"))
