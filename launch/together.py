"""Which runs of a sweep can be trained together, as one population, and which are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Variable:
    """The fields in which members of a population may differ, as the training command names them.

    Those in `all_or_none` may not be zero in some members and something else in others.
    """

    fields: frozenset[str] = frozenset()
    all_or_none: frozenset[str] = frozenset()

    def numbers(self, fields: Fields) -> dict[str, float]:
        """Returns those of a point's fields in which another member may differ.

        >>> rate = Variable(frozenset({"optim.learning_rate", "model.dropout"}))
        >>> rate.numbers({"optim.learning_rate": 0.1, "model.dropout": None, "data.batch_size": 32})
        {'optim.learning_rate': 0.1}
        """
        return {k: v for k, v in fields.items() if k in self.fields and _is_number(v)}

    def program(self, fields: Fields) -> str:
        """Returns what points must have in common to be members of one population."""
        numbers = self.numbers(fields)
        rest = {name: value for name, value in fields.items() if name not in numbers}
        on = {name: value != 0 for name, value in numbers.items() if name in self.all_or_none}
        return repr((sorted(rest.items()), sorted(on.items()), sorted(numbers)))


@dataclass(frozen=True)
class Group:
    """Trials that are trained together: their homes, and the seeds of one command each.

    It is kept with each of the trials, so that whoever goes on with them finds the same commands.
    """

    homes: tuple[int, ...]
    seeds: tuple[tuple[int, ...], ...]

    @property
    def runs(self) -> int:
        """The most runs of one command."""
        return len(self.homes) * max(map(len, self.seeds))

    def apart(self, home: int) -> "Group":
        """Returns the group of one of the trials, each of its runs alone."""
        return Group((home,), tuple((seed,) for some in self.seeds for seed in some))

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads."""
        return {"homes": list(self.homes), "seeds": list(map(list, self.seeds))}

    @staticmethod
    def from_json(kept: Mapping[str, Any]) -> "Group":
        """Returns the group that `to_json` wrote."""
        return Group(tuple(kept["homes"]), tuple(map(tuple, kept["seeds"])))


def shared_seeds(first: int, count: int, *, most: int, pruned: bool) -> tuple[tuple[int, ...], ...]:
    """Returns the seeds of each command: as many together as may be.

    By a trial's first seed it is pruned, so then that is trained alone, before the others.

    >>> shared_seeds(0, 5, most=4, pruned=False), shared_seeds(0, 3, most=4, pruned=True)
    (((0, 1, 2, 3), (4,)), ((0,), (1, 2)))
    """
    seeds = range(first, first + count)
    alone, rest = (seeds[:1], seeds[1:]) if pruned else (seeds[:0], seeds)
    parts = [alone, *(rest[i : i + most] for i in range(0, len(rest), most))]
    return tuple(tuple(part) for part in parts if part)


def population_flags(numbers: Sequence[Mapping[str, float]], seeds: int) -> list[str]:
    """Returns the flags that make points, of which these are the numbers, one population.

    >>> for flag in population_flags([{"lr": 0.1, "b": 1}, {"lr": 0.3, "b": 1}], seeds=2):
    ...     print(flag)
    --config.population.seeds=2
    --config.population.combine=zip
    --config.population.values=lr=0.1,0.3
    """
    flags = [f"--config.population.seeds={seeds}"]
    if len(numbers) == 1:
        return flags
    lists = {name: [each[name] for each in numbers] for name in numbers[0]}
    differing = {name: values for name, values in lists.items() if len(set(values)) > 1}
    text = "; ".join(f"{name}={','.join(map(str, v))}" for name, v in differing.items())
    return [*flags, "--config.population.combine=zip", f"--config.population.values={text}"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
