"""Searches hyperparameters: each trial is a training run, or one for each of several seeds.

    python -m launch.sweep --config=NAME --param=FIELD=VALUES ... --workdir=DIR
        [--trials=50] [--sampler=tpe] [--pruner=median] [--seeds=3] [--objective=-validation_loss]
        [--workers=4] [--together=16] [--storage=postgresql+psycopg://...]
        [--config.FIELD=VALUE ...]

`launch.space` says what VALUES can be, and what a --space=FILE.py. Without --trials every point of
a space of lists and steps is run, a grid. A trial's value is the mean over its seeds of the best
validation accuracy, or of another --objective; several objectives, "validation_accuracy,
-parameters", give a Pareto front. Pruning looks at the first seed, evaluation by evaluation.

The seeds of a trial are trained together by one command, and so are trials that differ only in
numbers that members of a population can differ in: up to --together runs, 1 for each its own. With
a pruner only the seeds after the first are, and nothing is if a time is an objective. What the
training command refuses to train together is trained alone.

DIR holds one study. It gets `trials.csv`, `best.json` (a config that `experiments.train` takes),
`sweep.html`, a run directory for each trial and seed below `trials/`, what they said under `logs/`,
and the journal that Optuna keeps: the same command goes on where it was stopped, and on another
machine that shares DIR it joins in. With a database as --storage the machines needn't share DIR,
but a trial goes on from its checkpoint only where they do. Ends with one JSON object on stdout.
"""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from launch import command_line, pool, results
from launch.command_line import LaunchError
from launch.devices import places
from launch.manifest import read_manifest, write_manifest
from launch.objectives import Objective, check_validation, parse_objectives
from launch.searching import ADAPTIVE, PRUNERS, SAMPLERS
from launch.space import Space, corners, grid, parse_parameter, read_space, space_of
from launch.storage import check_journal
from launch.training import check_seeds, check_together, is_population
from launch.trials import Settings

_PARAM = flags.DEFINE_multi_string("param", [], "FIELD=VALUES; see launch/space.py")
_SPACE = flags.DEFINE_string("space", None, "instead of --param: a Python file with space(trial)")
_TRIALS = flags.DEFINE_integer("trials", None, "points in all; a grid has its own", lower_bound=1)
_SEEDS = flags.DEFINE_integer("seeds", 1, "runs of each point", lower_bound=1)
_SAMPLER = flags.DEFINE_enum("sampler", None, list(SAMPLERS), "tpe, or grid without --trials")
_PRUNER = flags.DEFINE_enum("pruner", "none", list(PRUNERS), "what ends trials early")
_OBJECTIVE = flags.DEFINE_list("objective", ["validation_accuracy"], "what to make large; -: small")
_WORKDIR = flags.DEFINE_string("workdir", None, "where the sweep lies")
_STORAGE = flags.DEFINE_string("storage", "", "database URL or journal file; one in the workdir")
_STUDY = flags.DEFINE_string("study", None, "its name in the storage; the config's")
_WORKERS = flags.DEFINE_integer("workers", 1, "training processes at a time here", lower_bound=1)
_TOGETHER = flags.DEFINE_integer("together", None, "most runs of one command", lower_bound=1)
_SHARE = flags.DEFINE_boolean("share", False, "let several workers use one device or core")
_CHECK = flags.DEFINE_boolean("check", False, "only say whether it could start")
_FAILURES = flags.DEFINE_integer("failures", 3, "equal ones in a row that end it", lower_bound=1)
_GRACE = flags.DEFINE_integer("grace", 120, "in a database: seconds of silence", lower_bound=2)

_FEW, _MANY = 4, 16  # that are trained together: points of a sampler that learns, and runs


def main(argv: Sequence[str]) -> int | None:
    """Runs the command."""
    settings = read_settings(argv[1:])
    read_manifest(settings.workdir)  # a damaged one is told of before anything is done
    check_journal(_STORAGE.value, settings.workdir)
    if _CHECK.value:
        return None
    where = places(_WORKERS.value, share=_SHARE.value)
    trials = pool.open_trials(
        settings,
        storage=_STORAGE.value,
        study=_STUDY.value,
        pruner=_PRUNER.value,
        grace=_GRACE.value,
    )
    command = ["python", "-m", "launch.sweep", *sys.argv[1:]]
    write_manifest(settings.workdir, command)
    pool.run(trials, where, shlex.join(command))
    print(json.dumps(results.summary(trials.study, settings.objectives)))
    if trials.stopping:
        print("stopped, checkpoints saved; the same command goes on", file=sys.stderr)
        return command_line.STOPPED
    return None


def read_settings(arguments: Sequence[str]) -> Settings:
    """Returns what the command line asks for, checked as far as can be without training.

    Raises:
      LaunchError: something is missing or wrong.
    """
    if _WORKDIR.value is None:
        raise LaunchError("--workdir=DIR is missing: where the sweep lies")
    objectives = parse_objectives(_OBJECTIVE.value)
    if _PRUNER.value != "none" and (len(objectives) > 1 or not objectives[0].by_validation):
        raise LaunchError(f"--pruner={_PRUNER.value} needs one objective, of the validation split")
    space = _read_space()
    points = list(corners(space))
    _check_fields(points, arguments)
    sampler = _SAMPLER.value or ("tpe" if _TRIALS.value else "grid")
    if sampler != "grid" and not _TRIALS.value:
        raise LaunchError(f"--sampler={sampler} never ends by itself; give --trials=N")
    size = len(grid(space)) if sampler == "grid" else _TRIALS.value
    config, variable = check_together(arguments, points)
    check_validation(objectives, config, points)
    if is_population(config):
        raise LaunchError("the config is a population; a sweep takes --param and --seeds=N instead")
    check_seeds(config, _SEEDS.value)
    trials = min(size, _TRIALS.value or size)
    return Settings(
        arguments=tuple(arguments),
        config=config,
        space=space,
        objectives=objectives,
        seeds=_SEEDS.value,
        trials=trials,
        sampler=sampler,
        workdir=Path(_WORKDIR.value).absolute(),
        failures=_FAILURES.value,
        together=_runs_together(objectives, sampler, trials),
        variable=variable,
    )


def _runs_together(objectives: Sequence[Objective], sampler: str, trials: int) -> int:
    """Returns how many runs may share a command, by default so that all workers have some."""
    if any(each.of_time for each in objectives):
        return 1  # the time a run takes alone is what is measured
    if _TOGETHER.value:
        return _TOGETHER.value
    points = min(-(-trials // _WORKERS.value), _FEW if sampler in ADAPTIVE else _MANY)
    return min(_MANY, points * _SEEDS.value)


def _read_space() -> Space:
    if _SPACE.value and _PARAM.value:
        raise LaunchError("--param and --space are both given; give one")
    if _SPACE.value:
        return read_space(Path(_SPACE.value))
    return space_of([parse_parameter(text) for text in _PARAM.value])


def _check_fields(points: Sequence[dict], arguments: Sequence[str]) -> None:
    """Raises LaunchError for a swept field that is also set, or that seeds set."""
    swept = {name for point in points for name in point}
    for argument in arguments:
        name = argument.partition("=")[0].removeprefix("--config.")
        if name in swept:
            raise LaunchError(f"{name} is swept and set by {argument}; do one")
    if any(name.startswith("population.") for name in swept):
        raise LaunchError("population.* is swept; a sweep takes --param and --seeds=N instead")
    if "seed" in swept:
        raise LaunchError("seed is swept; a trial's seeds are --seeds=N, from --config.seed on")


if __name__ == "__main__":
    command_line.run(main)
