"""Which runs make up a population: the configs of its members, each that of a run alone."""

import itertools
from collections.abc import Sequence
from typing import Any

from cnn_jax.config import Config, Population, differences, flatten, is_on, with_fields
from cnn_jax.config_checks import validate
from cnn_jax.data.augment import STRENGTHS, check_augment
from cnn_jax.data.spec import Spec
from cnn_jax.errors import InputError, unknown
from cnn_jax.training.network import build_network
from cnn_jax.training.optimizer import unread

# What may differ between members: numbers that no array's shape depends on.
VARIABLE = (
    "optim.learning_rate",
    "optim.momentum",
    "optim.decay_rate",
    "optim.beta1",
    "optim.beta2",
    "optim.epsilon",
    "optim.weight_decay",
    "optim.clip_norm",
    "train.label_smoothing",
    "model.dropout",
    "model.drop_path",
    *(f"data.augment.{name}" for name in STRENGTHS),
)
# At zero these make another program, or another state, than at any number near zero.
ALL_OR_NONE = (
    "optim.momentum",
    "optim.clip_norm",
    "data.augment.resized_crop",
    "data.augment.mixup",
    "data.augment.cutmix",
)
MOST = 1000  # members, whose directories are in order by numbers of three digits


def member_configs(config: Config) -> list[Config]:
    """Returns the configs of the members: for each combination of values, one for each seed.

    Each is the whole config of a run alone that does the same.

    Raises:
      InputError: the values can't be read, can't differ between members, or are wrong for a run; or
        the members are too many.

    >>> from cnn_jax.config import Train
    >>> population = Population(seeds=2, values="optim.learning_rate=0.1,0.3")
    >>> config = Config(train=Train(epochs=1), population=population)
    >>> [(c.optim.learning_rate, c.seed) for c in member_configs(config)]
    [(0.1, 0), (0.1, 1), (0.3, 0), (0.3, 1)]
    """
    values, seeds = combinations(config.population), max(1, config.population.seeds)
    if (count := len(values) * seeds) > MOST:
        raise InputError(
            f"population.seeds and population.values make {count:,} members; it may be {MOST:,} "
            "at most"
        )
    members = [
        with_fields(config, {**own, "seed": config.seed + i, "population": Population()})
        for own in values
        for i in range(seeds)
    ]
    for member in members:
        _check(member)
    for path in ALL_OR_NONE:
        on = {is_on(flatten(member)[path]): flatten(member)[path] for member in members}
        if len(on) > 1:
            raise InputError(
                f"population.values: {path} is {on[False]} and {on[True]}; with and without it are "
                "two programs: make two populations"
            )
    return members


def combinations(population: Population) -> list[dict[str, float]]:
    """Returns the values of each combination, by field.

    >>> combinations(Population(values="optim.beta1=0.8,0.9; model.dropout=0,0.2", combine="zip"))
    [{'optim.beta1': 0.8, 'model.dropout': 0.0}, {'optim.beta1': 0.9, 'model.dropout': 0.2}]
    """
    parts = [part.strip() for part in population.values.split(";") if part.strip()]
    lists = dict(_read(part) for part in parts)
    if len(lists) < len(parts):
        raise InputError(f"population.values names a field twice: '{population.values}'")
    lengths = {path: len(values) for path, values in lists.items()}
    if population.combine == "zip" and len(set(lengths.values())) > 1:
        raise InputError(
            f"population.combine=zip takes lists of one length, not {_text(lengths)}; or set "
            "population.combine=product"
        )
    combine = zip if population.combine == "zip" and lists else itertools.product
    made = list(combine(*lists.values()))
    if len(set(made)) < len(made):
        raise InputError(f"population.values: '{population.values}' should be different numbers")
    return [dict(zip(lists, values, strict=True)) for values in made]


def differing(members: Sequence[Config]) -> list[str]:
    """Returns the fields in which members differ, but for the seed."""
    found = {path for member in members for path in differences(members[0], member)}
    return sorted(found - {"seed"})


def describe(member: Config, paths: Sequence[str]) -> str:
    """Returns what sets a member apart, in a few words.

    >>> describe(Config(seed=3), ["optim.learning_rate"])
    'seed=3 optim.learning_rate=0.1'
    """
    flat = flatten(member)
    return _text({"seed": member.seed} | {path: flat[path] for path in paths})


def _read(part: str) -> tuple[str, list[float]]:
    path, equals, text = part.partition("=")
    path = path.strip()
    if path not in VARIABLE:
        if path not in flatten(Config()):
            raise unknown("field in population.values", path, VARIABLE)
        raise InputError(
            f"population.values: {path} can't differ between members of one program; "
            f"these can: {', '.join(VARIABLE)}"
        )
    try:
        values = [float(value) for value in text.split(",")] if equals else []
    except ValueError:
        values = []
    if not values:
        raise InputError(
            f"population.values: '{part}' should be a field and different numbers, such as "
            f"{path}=0.01,0.03"
        )
    return path, values


def _check(member: Config) -> None:
    try:
        validate(member)
    except InputError as error:
        raise InputError(f"population: {error}") from error


def _text(values: dict[str, Any]) -> str:
    return " ".join(f"{name}={value:g}" for name, value in values.items())


def check_each(population: Config, spec: Spec) -> None:
    """Raises InputError for a member whose network has no such option, whose images can't be
    changed so, or whose optimizer does not read what is to differ.
    """
    on, varied = {}, combinations(population.population)[0]
    for config in member_configs(population):
        build_network(config, spec)
        for name in unread(config.optim):
            if f"optim.{name}" in varied:
                raise InputError(f"population.values: {config.optim.name} has no optim.{name}")
        changes = config.data.augment
        on[tuple(map(bool, vars(changes).values()))] = changes
    for changes in on.values():
        check_augment(changes, spec.image_shape)
