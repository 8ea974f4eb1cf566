"""What a run directory tells of its run, finished or not."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cnn_jax.config import Config, flatten, placement_fields, total_steps
from cnn_jax.data.spec import Spec
from cnn_jax.metric_rows import METRICS, Row, read_rows
from cnn_jax.training.population.standing import cut_short
from cnn_jax.training.run_directory import DATASET, RESULT, read_config, read_json, read_spec

_FEW_FIELDS = 2  # that a name can hold


@dataclasses.dataclass(frozen=True, eq=False)
class RunRecord:
    """One run, as far as it has come."""

    workdir: Path
    config: Config
    rows: list[Row]
    result: dict[str, Any] | None  # None: not finished
    spec: Spec | None  # None: it never began

    @property
    def name(self) -> str:
        """What it is called: its config's name, else its network's."""
        return self.config.name or self.config.model.name

    @property
    def best(self) -> Row | None:
        """The row of the best evaluation; of equals the earliest; None without a validation split.

        A finished run says itself which it was: `train.min_change` may pass over a better one.
        """
        monitor = self.config.train.monitor
        rows = [row for row in self.rows if np.isfinite(row.get(f"validation_{monitor}", np.nan))]
        named = ((self.result or {}).get("best_validation") or {}).get("step")
        chosen = [row for row in rows if row["step"] == named] or rows
        sign = -1 if monitor == "loss" else 1
        return max(chosen, key=lambda row: sign * row[f"validation_{monitor}"], default=None)

    @property
    def steps(self) -> int:
        """How many steps the run took; one under way, up to its last row."""
        last = self.rows[-1]["step"] if self.rows else 0
        return (self.result or {}).get("steps", last)

    @property
    def planned_steps(self) -> int | None:
        """How many steps its config asks for; None where no row says how long an epoch is."""
        if self.config.train.steps is not None or not self.rows:
            return self.config.train.steps
        last = self.rows[-1]
        examples = round(last["step"] * self.config.data.batch_size / last["epoch"])
        return total_steps(self.config, examples)

    @property
    def cut_short(self) -> bool:
        """Whether its population ended it before its time, so that no mean counts it."""
        return cut_short(self.result or {})

    def series(self, name: str) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
        """Returns the epochs and values of one column of the rows that have it."""
        found = [(row["epoch"], row[name]) for row in self.rows if row.get(name) is not None]
        epochs, values = np.asarray(found, np.float64).reshape(-1, 2).T
        return epochs, values


def read_record(workdir: Path) -> RunRecord:
    """Returns the record of the run in `workdir`.

    Raises:
      InputError: it holds no run, or a damaged one.
    """
    return RunRecord(
        workdir=workdir,
        config=read_config(workdir),
        rows=[row for row in read_rows(workdir / METRICS) if "epoch" in row],
        result=_result(workdir),
        spec=read_spec(workdir) if (workdir / DATASET).exists() else None,
    )


def _result(workdir: Path) -> dict[str, Any] | None:
    result = read_json(workdir / RESULT)
    if result and result.get("test_loss", 0.0) is None:  # as JSON has what is not finite
        result["test_loss"] = math.nan
    return result


def grouped(records: list[RunRecord]) -> list[list[RunRecord]]:
    """Returns the runs in groups that differ in nothing but the seed, in the order given."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(repr(_identity(record.config)), []).append(record)
    return list(groups.values())


def counted(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Returns the runs of a group that means are taken over: one of each seed, a finished one.

    Those that their population cut short are in none. A seed's run that has not finished stands
    for it where no other has.
    """
    running = [record for record in records if not record.cut_short]
    by_seed: dict[int, RunRecord] = {}
    for record in sorted(running, key=lambda record: record.result is None):
        by_seed.setdefault(record.config.seed, record)
    return [record for record in running if by_seed[record.config.seed] is record]


def differing(configs: list[Config]) -> dict[str, list[Any]]:
    """Returns {field: its value in each config} of the fields that are not the same in all.

    The seed and where a run works are left out.

    >>> differing([Config(name="a", seed=1), Config(name="b", seed=2)])
    {'name': ['a', 'b']}
    """
    flat = [_identity(config) for config in configs]
    names = dict.fromkeys(name for each in flat for name in each)
    columns = {name: [each.get(name) for each in flat] for name in names}
    return {name: values for name, values in columns.items() if values.count(values[0]) < len(flat)}


def _identity(config: Config) -> dict[str, Any]:
    without = placement_fields(config) | {"seed"}
    return {name: value for name, value in flatten(config).items() if name not in without}


def group_names(groups: list[list[RunRecord]]) -> list[str]:
    """Returns a name for each group: its config's, and if others share it, what sets it apart."""
    names = [group[0].name for group in groups]
    return [
        name if names.count(name) == 1 else f"{name}, {_apart(group, names, groups)}"
        for name, group in zip(names, groups, strict=True)
    ]


def _apart(group: list[RunRecord], names: list[str], groups: list[list[RunRecord]]) -> str:
    """Returns a group's values of the few fields that the groups of its name differ in."""
    configs = [each[0].config for each in groups]
    name = names[groups.index(group)]
    alike = [config for config, other in zip(configs, names, strict=True) if other == name]
    fields = list(differing(alike))
    if not 0 < len(fields) <= _FEW_FIELDS:
        return _place(group[0].workdir, [each[0].workdir for each in groups])
    values = flatten(group[0].config)
    return ", ".join(f"{field.rpartition('.')[2]} {values[field]}" for field in fields)


def _place(workdir: Path, workdirs: list[Path]) -> str:
    """Returns as much of the end of a path as tells it from the others."""
    ends = [each.absolute().parts for each in workdirs]
    own = workdir.absolute().parts
    lengths = (n for n in range(1, len(own)) if [end[-n:] for end in ends].count(own[-n:]) == 1)
    return "/".join(own[-next(lengths, len(own)) :])
