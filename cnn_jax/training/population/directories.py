"""A run directory for each member of a population, so that every command takes it for a run."""

import shutil
from pathlib import Path
from typing import Any

import jax

from cnn_jax.config import is_population, to_json
from cnn_jax.errors import InputError, writing
from cnn_jax.metric_rows import METRICS, Row, member_rows, read_rows
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.population.standing import Member
from cnn_jax.training.run_directory import (
    CONFIG,
    MEMBERS,
    NORMALIZATION,
    RESULT,
    member_directory,
    read_config,
    write_spec,
)
from cnn_jax.training.setup import abstract_state
from cnn_jax.training.writers import Writers
from cnn_jax.whole_files import write_json, write_text


def member_directories(workdir: Path) -> list[Path]:
    """Returns the members' directories of the population in `workdir`; of a single run, none.

    Raises:
      InputError: it is a population that has not finished.
    """
    if not is_population(read_config(workdir)):
        return []
    if not (workdir / RESULT).exists():
        raise InputError(f"the population in {workdir} has not finished; train it to its end first")
    found = sorted(path for path in (workdir / MEMBERS).glob("*") if path.name.isdigit())
    if not found:
        raise InputError(f"the population in {workdir} has lost its members' directories")
    return found


def find_member(workdir: Path, number: int) -> Path:
    """Returns the directory of one member.

    Raises:
      InputError: there is no such member.
    """
    members = member_directories(workdir)
    if not members:
        raise InputError(f"{workdir} is a single run and has no members; leave --member out")
    found = member_directory(workdir, number)
    if found not in members:
        first, last = (int(path.name) for path in (members[0], members[-1]))
        raise InputError(f"there is no member {number}; they are numbered {first} to {last}")
    return found


def write_member(workdir: Path, member: Member, result: dict[str, Any]) -> None:
    """Writes what the member's run would have left, had it been alone; all of it anew.

    Args:
      workdir: the population's directory.
      member: one that has ended.
      result: what goes into its result.json.

    Raises:
      RunError: it can't be written.
    """
    directory = member_directory(workdir, member.number)
    shutil.rmtree(directory, ignore_errors=True)  # of a start that ended while it wrote this
    with writing(directory):
        directory.mkdir(parents=True)
        _write(directory, member, read_rows(workdir / METRICS))
        write_json(directory / RESULT, result)


def _write(directory: Path, member: Member, rows: list[Row]) -> None:
    experiment = member.experiment
    write_text(directory / CONFIG, to_json(experiment.config))
    write_spec(directory, experiment.dataset.spec)
    experiment.normalization.save(directory / NORMALIZATION)
    structure = jax.tree.structure(abstract_state(experiment))
    with Checkpoints(directory / "checkpoints") as checkpoints:
        for step, (state, metrics) in sorted(member.checkpoints().items()):
            own = jax.tree.unflatten(structure, jax.tree.leaves(state))
            checkpoints.save(step, own, metrics)
    with Writers(directory, -1) as writers:
        for row in member_rows(rows, member.number):
            writers.write(row)
