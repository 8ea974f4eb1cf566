"""The search space: which fields of the config a sweep varies, and over which values.

On the command line, one `--param=FIELD=VALUES` for each field, VALUES being

    0.3,0.5            a list; commas inside brackets don't part: (0.5,0.75),(0.6,)
    range:0:0.5        a real number, evenly distributed; range:0:0.5:0.1 in steps
    log:1e-3:1         a real number, evenly distributed in its logarithm
    int:1:8            a whole number; int:8:64:8 in steps
    log_int:16:512     a whole number, evenly distributed in its logarithm

each with its ends, and after it, if the field matters only then, a condition on a list given
before: `--param='optim.momentum=range:0:0.99 if optim.name=sgd,rmsprop'`.

Or in a Python file, `--space=FILE.py`, that defines a function of an Optuna trial:

    def space(trial):
        if trial.suggest_categorical("optim.name", ["sgd", "adamw"]) == "sgd":
            trial.suggest_float("optim.momentum", 0.0, 0.99)
        rate = trial.suggest_float("optim.learning_rate", 1e-4, 1.0, log=True)
        return {"optim.weight_decay": rate / 100}  # more fields to set, if any
"""

import contextlib
import itertools
import math
import re
import runpy
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from launch.command_line import LaunchError

_FORM = "FIELD=a,b,... or range:a:b[:step], log:a:b, int:a:b[:step], log_int:a:b"
_MOST_POINTS = 100_000


@dataclass(frozen=True)
class Parameter:
    """One field to vary: the method of an Optuna trial that chooses its value, and when it does."""

    name: str
    method: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    condition: tuple[str, tuple[Any, ...]] | None = None

    def applies(self, chosen: Mapping[str, Any]) -> bool:
        """Whether the field is varied, given the fields before it."""
        return self.condition is None or chosen.get(self.condition[0]) in self.condition[1]

    def suggest(self, trial: Any) -> Any:
        """Lets the trial choose a value."""
        return getattr(trial, self.method)(self.name, *self.arguments, **self.options)


@dataclass(frozen=True)
class Space:
    """A function from an Optuna trial to the fields it sets, and the text that tells it apart."""

    suggest: Callable[[Any], Mapping[str, Any] | None]
    description: str

    def __call__(self, trial: Any) -> dict[str, Any]:
        """Returns the fields to set, chosen by the trial.

        Raises:
          LaunchError: the user's function fails.
        """
        try:
            more = self.suggest(trial)
        except LaunchError:
            raise
        except (Exception, SystemExit) as error:
            raise LaunchError(f"the space fails: {type(error).__name__}: {error}") from error
        if not isinstance(more, Mapping | None):
            raise LaunchError(
                f"the space returns {more!r}; it must be a dict of fields, or nothing"
            )
        return {**trial.params, **(more or {})}


def parse_parameter(text: str) -> Parameter:
    """Returns the parameter that a --param says.

    Raises:
      LaunchError: it is not of the form described above, or has no values.

    >>> parse_parameter("optim.learning_rate=log:1e-3:1").arguments
    (0.001, 1.0)
    >>> parse_parameter("optim.momentum=0.8,0.9 if optim.name=sgd").condition
    ('optim.name', ('sgd',))
    """
    rest, conditional, condition = f"{text} ".partition(" if ")
    if conditional and not condition.strip():
        raise LaunchError(f"--param={text}: a condition has the form: if FIELD=VALUE,...")
    name, equals, values = (part.strip() for part in rest.partition("="))
    if not (name and equals):
        raise LaunchError(f"--param={text} is not of the form {_FORM}")
    if not values:
        raise LaunchError(f"--param={text}: {name} has no values; give {_FORM}")
    kind, *numbers = values.split(":")
    if kind in _KINDS:
        return Parameter(name, *_KINDS[kind](text, numbers), condition=_condition(text, condition))
    choices = _values(values)
    if len(set(map(repr, choices))) < len(choices):
        raise LaunchError(f"--param={text}: a value is there twice")
    return Parameter(name, "suggest_categorical", (choices,), {}, _condition(text, condition))


def space_of(parameters: Sequence[Parameter]) -> Space:
    """Returns the space that these parameters make.

    Raises:
      LaunchError: there are none, one is there twice, or a condition is on none given before.
    """
    if not parameters:
        raise LaunchError(f"there is nothing to sweep; give --param={_FORM}, or --space=FILE.py")
    before: dict[str, Parameter] = {}
    for parameter in parameters:
        if parameter.name in before:
            raise LaunchError(f"there are two --param={parameter.name}; give one")
        _check_condition(parameter, before)
        before[parameter.name] = parameter

    def suggest(trial: Any) -> None:
        chosen: dict[str, Any] = {}
        for each in parameters:
            if each.applies(chosen):
                chosen[each.name] = each.suggest(trial)

    return Space(suggest, "\n".join(sorted(map(str, parameters))))


def _check_condition(parameter: Parameter, before: Mapping[str, Parameter]) -> None:
    if parameter.condition is None:
        return
    name, values = parameter.condition
    if name not in before or before[name].method != "suggest_categorical":
        raise LaunchError(
            f"{parameter.name} is on condition of {name}, which must be a list given before it"
        )
    known = before[name].arguments[0]
    for value in values:
        if value not in known:
            raise LaunchError(
                f"{parameter.name} is on condition of {name}={value}, none of {known}"
            )


def read_space(path: Path) -> Space:
    """Returns the space of a Python file that defines `space(trial)`.

    Raises:
      LaunchError: there is no such file or function.
    """
    if not path.is_file():
        raise LaunchError(f"there is no space file {path}")
    try:
        function = runpy.run_path(str(path)).get("space")
        with tokenize.open(path) as file:
            text = file.read()
    except (Exception, SystemExit) as error:
        raise LaunchError(f"{path} fails: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise LaunchError(f"{path} defines no function space(trial)")
    return Space(function, text)


class _Explorer:
    """A trial that takes what it is told to, else the first value, and notes what there was."""

    def __init__(self, told: Mapping[str, Any], values: Callable[..., Sequence[Any]]):
        self.params: dict[str, Any] = {}
        self.seen: dict[str, Sequence[Any]] = {}
        self._told, self._values = told, values

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        plain = (bool, int, float, str, type(None))
        if odd := [choice for choice in choices if not isinstance(choice, plain)]:
            raise LaunchError(
                f"{name} has the choice {odd[0]!r}; write it as text: {str(odd[0])!r}"
            )
        return self._choose(name, list(choices))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._choose(name, self._values(name, float(low), float(high), step))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return self._choose(name, self._values(name, low, high, step))

    def _choose(self, name: str, values: Sequence[Any]) -> Any:
        if not values:
            raise LaunchError(f"{name} has no values")
        self.seen[name] = values
        return self.params.setdefault(name, self._told.get(name, values[0]))


def corners(space: Space) -> Iterator[dict[str, Any]]:
    """Yields points of the space that together have each listed value and both ends of each range.

    Raises:
      LaunchError: a field has no values.
    """
    queue: list[dict[str, Any]] = [{}]
    asked: set[tuple[str, str]] = set()
    while queue:
        trial = _Explorer(queue.pop(0), lambda name, low, high, step: [low, high])
        yield space(trial)
        asked |= {(name, repr(value)) for name, value in trial.params.items()}
        for name, values in trial.seen.items():
            for value in values:
                if (name, repr(value)) not in asked:
                    asked.add((name, repr(value)))
                    queue.append({**trial.params, name: value})


def grid(space: Space) -> list[dict[str, Any]]:
    """Returns all points of a space of lists and steps: for each the values a trial has to choose.

    Raises:
      LaunchError: a field has infinitely many values, or there are too many points.
    """
    points = list(itertools.islice(_walk(space, {}), _MOST_POINTS + 1))
    if len(points) > _MOST_POINTS:
        raise _too_many()
    return points


def _walk(space: Space, told: dict[str, Any]) -> Iterator[dict[str, Any]]:
    trial = _Explorer(told, _all_values)
    space(trial)
    open_fields = [name for name in trial.seen if name not in told]
    if not open_fields:
        yield dict(trial.params)
        return
    for value in trial.seen[open_fields[0]]:
        yield from _walk(space, {**told, open_fields[0]: value})


def _all_values(name: str, low: float, high: float, step: float | None) -> Sequence[Any]:
    if step is None:
        raise LaunchError(
            f"a grid over {name} has no end: it is any number from {low:g} to {high:g}; give a "
            "list or a step, or --trials=N with another --sampler"
        )
    if isinstance(low, int):
        return range(low, high + 1, step)
    a, b, by = (Decimal(str(number)) for number in (low, high, step))
    count = int((b - a) / by) + 1
    if count > _MOST_POINTS:
        raise _too_many()
    return [float(a + i * by) for i in range(count)]


def _too_many() -> LaunchError:
    return LaunchError(
        f"the grid has more than {_MOST_POINTS:,} points; give --trials=N and another --sampler"
    )


def _range(text: str, numbers: Sequence[str]) -> tuple:
    low, high, *step = _numbers(text, numbers, float, (2, 3))
    if step:
        a, b, by = (Decimal(str(number)) for number in (low, high, *step))
        high = float(a + int((b - a) / by) * by)  # Optuna warns of a step that misses the end
    return "suggest_float", (low, high), {"step": step[0]} if step else {}


def _log(text: str, numbers: Sequence[str]) -> tuple:
    low, high = _numbers(text, numbers, float, (2,))
    _check_log(text, low)
    return "suggest_float", (low, high), {"log": True}


def _int(text: str, numbers: Sequence[str]) -> tuple:
    low, high, *step = _numbers(text, numbers, int, (2, 3))
    if step:
        high = low + (high - low) // step[0] * step[0]
    return "suggest_int", (low, high), {"step": step[0]} if step else {}


def _log_int(text: str, numbers: Sequence[str]) -> tuple:
    low, high = _numbers(text, numbers, int, (2,))
    _check_log(text, low)
    return "suggest_int", (low, high), {"log": True}


_KINDS = {"range": _range, "log": _log, "int": _int, "log_int": _log_int}


def _check_log(text: str, low: float) -> None:
    if low <= 0:
        raise LaunchError(f"--param={text}: a logarithmic range must begin above 0, not at {low}")


def _numbers(text: str, numbers: Sequence[str], kind: type, counts: Sequence[int]) -> list:
    """Returns the numbers of a range, checked."""
    try:
        values = [kind(number) for number in numbers]
    except ValueError as error:
        raise LaunchError(f"--param={text}: {error}") from error
    if len(values) not in counts:
        raise LaunchError(f"--param={text} is not of the form {_FORM}")
    if not all(math.isfinite(value) for value in values):
        raise LaunchError(f"--param={text}: a range must be finite")
    if values[0] >= values[1]:
        raise LaunchError(f"--param={text} is empty: {values[0]} is not below {values[1]}")
    if len(values) == 3 and values[2] <= 0:
        raise LaunchError(f"--param={text}: the step is {values[2]}; it must be above 0")
    return values


def _condition(text: str, condition: str) -> tuple[str, tuple[Any, ...]] | None:
    if not condition:
        return None
    name, equals, values = (part.strip() for part in condition.partition("="))
    if not (name and equals and values):
        raise LaunchError(f"--param={text}: a condition has the form: if FIELD=VALUE,...")
    return name, _values(values)


def _values(text: str) -> tuple[Any, ...]:
    """Returns the values of a list, with commas inside brackets left alone."""
    words = [each.strip() for each in re.findall(r"(?:\([^)]*\)|[^,])+", text)]
    if not all(words) or re.search(r",\s*(,|$)|^\s*,", text):
        raise LaunchError(f"'{text}' has an empty place; give a value between two commas")
    return tuple(map(_value, words))


def _value(text: str) -> Any:
    """Returns what a word says: none, true, false, a number, or itself."""
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
