"""Trains a network, evaluates it on the test split and leaves a run directory.

    python -m experiments.train --config=lenet_digits [--workdir=DIR] [--config.FIELD=VALUE ...]

Run again with the same --workdir it resumes; a finished run says so. Without --workdir every start
gets a new directory under runs/.

With --check nothing is trained and no data or device touched: the config is validated and printed
as a JSON line; so is, for each --also="--config.FIELD=VALUE ...", the config with those flags too.
With --variable a last line names the numbers that may differ between members of a population, and
those of them that may not be zero in some and something else in others.

Several processes, started with the same --workdir on a file system they share, are one run. Slurm,
Open MPI and Cloud TPU tell them of each other; elsewhere each is started with --coordinator,
--process_id and --num_processes.
"""

import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cnn_jax.config import Config, is_population
from cnn_jax.config_checks import check_effect, validate
from cnn_jax.errors import InputError
from cnn_jax.models.registry import build_model
from cnn_jax.training import processes
from cnn_jax.training.clock import Clock, process_start
from cnn_jax.training.interruption import Stopped
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.population.members import ALL_OR_NONE, VARIABLE, member_configs
from cnn_jax.training.population.run import train_population
from cnn_jax.training.population.strategies import choose
from cnn_jax.training.run_directory import new_directory
from experiments import command_line
from experiments.host_memory import run_side_by_side

_CONFIG = command_line.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "run directory; default: a new one under runs/")
_CHECK = flags.DEFINE_boolean("check", False, "only validate and print the complete config")
_ALSO = flags.DEFINE_multi_string("also", [], "with --check: more flags, to check as well")
_VARIABLE = flags.DEFINE_boolean("variable", False, "with --check: say what members can differ in")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "address:port of process 0, if several")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "number of this process, from 0")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "how many processes there are")


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    if _CHECK.value:
        check(_ALSO.value)
        if _VARIABLE.value:
            print(json.dumps({"variable": VARIABLE, "all_or_none": ALL_OR_NONE}))
        return
    config = _read_config()
    several = processes.join(_COORDINATOR.value, _PROCESS_ID.value, _NUM_PROCESSES.value)
    if several and not _WORKDIR.value:
        raise InputError("--workdir=DIR is missing: several processes need the same directory")
    workdir = Path(_WORKDIR.value or new_directory(Path("runs") / config.name))
    train = train_population if is_population(config) else train_and_evaluate
    if is_population(config) and choose(config.population.strategy, "cpu") == "each":
        run_side_by_side()
    try:
        train(config, workdir, clock=Clock("import", process_start()))
    except Stopped:
        raise
    except Exception as error:
        if several:
            processes.end(error)
        raise


def _read_config() -> Config:
    config = command_line.read_config(_CONFIG)
    if config.study:
        raise InputError(f"this is a study's config: go on with experiments.{config.study}")
    return config


def check(more: Sequence[str]) -> None:
    """Prints the config of the command line, then for each of `more` that with these flags too.

    Raises:
      InputError: one of them is wrong as far as can be told without data; the lines before it
        are the right ones.
    """
    given = list(sys.argv)
    for extra in ("", *more):
        try:
            words = shlex.split(extra)
        except ValueError as error:
            raise InputError(f"--also={extra} can't be split into flags: {error}") from error
        command_line.parse([*given, *words])
        config = _read_config()
        validate(config)
        if extra or not more:  # with --also the first is no run, but what the others change
            check_effect(config)
        if is_population(config):
            member_configs(config)
        build_model(num_classes=2, **dataclasses.asdict(config.model))
        print(json.dumps(dataclasses.asdict(config)), flush=True)


if __name__ == "__main__":
    command_line.run(main)
