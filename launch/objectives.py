"""What a sweep makes as large or as small as it can: metrics of a run, never of the test split."""

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from launch.command_line import LaunchError

# Of result.json; metrics of the validation split come from metrics.jsonl besides.
COSTS = ("parameters", "train_seconds", "compile_seconds", "images_per_second")
_PREFIX = "validation_"
_METRICS = tuple(
    f"{_PREFIX}{name}" for name in ("accuracy", "loss", "top5_accuracy", "label_accuracy")
)


class Objective(NamedTuple):
    """A metric, and whether more of it is better.

    `value` of a run is its best on the way if it is a metric of the validation split.
    """

    name: str
    maximize: bool

    def __str__(self) -> str:
        return self.name if self.maximize else f"-{self.name}"

    @property
    def direction(self) -> str:
        """The direction as Optuna names it."""
        return "maximize" if self.maximize else "minimize"

    @property
    def by_validation(self) -> bool:
        """Whether it is measured, again and again, on the validation split."""
        return self.name.startswith(_PREFIX)

    @property
    def of_time(self) -> bool:
        """Whether it measures how long something takes, which depends on what runs beside it."""
        return self.name in COSTS and self.name != "parameters"

    def curve(self, rows: Sequence[Mapping[str, float]]) -> list[float]:
        """Returns its values in a run's metric rows, in their order."""
        return [row[self.name] for row in rows if self.name in row]

    def value(self, rows: Sequence[Mapping[str, float]], result: Mapping[str, Any]) -> float:
        """Returns its value for a finished run.

        Raises:
          LaunchError: the run has no such metric.
        """
        values = self.curve(rows) if self.by_validation else [result.get(self.name)]
        finite = [value for value in values if value is not None and math.isfinite(value)]
        if finite:
            return float(max(finite) if self.maximize else min(finite))
        known = sorted({name for row in rows for name in row if name.startswith(_PREFIX)})
        raise LaunchError(
            f"the run has no finite {self.name}; it has {', '.join(known) or 'no validation split'}"
        )


def parse_objectives(words: Sequence[str]) -> tuple[Objective, ...]:
    """Returns the objectives of names, with a minus before what is to be small.

    Raises:
      LaunchError: one is not known, is of the test split, or is there twice.

    >>> parse_objectives(["validation_accuracy", "-train_seconds"])[1]
    Objective(name='train_seconds', maximize=False)
    """
    objectives = tuple(Objective(word.lstrip("-"), not word.startswith("-")) for word in words)
    for each in objectives:
        if each.name.startswith("test"):
            raise LaunchError(
                f"--objective={each.name}: a sweep never chooses by the test split; "
                "take validation_accuracy"
            )
        if each.name not in (known := [*_METRICS, *COSTS]):
            near = difflib.get_close_matches(each.name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else "."
            raise LaunchError(f"unknown objective '{each.name}'{hint} Known: {', '.join(known)}")
    if not objectives or len({each.name for each in objectives}) < len(objectives):
        raise LaunchError("--objective needs names, each once: validation_accuracy,-train_seconds")
    return objectives


def check_validation(
    objectives: Sequence[Objective], config: Mapping[str, Any], points: Sequence[Mapping[str, Any]]
) -> None:
    """Raises LaunchError if an objective needs a validation split and a point has none."""
    needed = any(each.by_validation for each in objectives)
    if needed and not all(_has_validation(config, point) for point in points):
        raise LaunchError(
            "there is no validation split to choose by: data.validation_fraction is 0; "
            "set --config.data.validation_fraction=0.1"
        )


def _has_validation(config: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    data = {name: point.get(f"data.{name}", value) for name, value in config["data"].items()}
    may_have_one = data["name"] in ("image_folder", "npz")  # beside the training images
    return bool(may_have_one or data["validation_fraction"] or data["validation_split"])
