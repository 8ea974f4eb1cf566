"""Sweeps of the fake training command: what they are, running them, and what they have done."""

import os
import signal
import time

from cnn_jax.metric_rows import METRICS
from launch import pool
from launch.devices import Place
from launch.objectives import parse_objectives
from launch.space import grid, parse_parameter, space_of
from launch.training import check_together
from launch.trials import Settings

RATES = "optim.learning_rate=0.1,0.2,0.4"


def settings(place, *params, arguments=(), objective="validation_accuracy", **options):
    arguments = ("--config=mine", *arguments)
    space = space_of([parse_parameter(text) for text in params or (RATES,)])
    sampler = options.setdefault("sampler", "grid")
    options.setdefault("trials", len(grid(space)) if sampler == "grid" else 4)
    config, variable = check_together(arguments)
    return Settings(
        arguments=arguments,
        config=config,
        variable=variable,
        space=space,
        objectives=parse_objectives(objective.split(",")),
        seeds=options.pop("seeds", 1),
        workdir=place / "sweep",
        **options,
    )


def run(given, workers=1, **options):
    trials = pool.open_trials(given, **options)
    pool.run(trials, [Place()] * workers, "the command")
    return trials


def kill_while_training(given, place, **options):
    """Runs a sweep in a process of its own and kills that once a run has written a row."""
    pid = os.fork()
    if not pid:
        try:
            run(given, **options)
        finally:
            os._exit(1)
    while not list(place.rglob(METRICS)):
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def starts(place):
    """Returns how often each run directory's training command was started."""
    return {
        str(path.parent.relative_to(place / "sweep/trials")): len(path.read_text().splitlines())
        for path in sorted((place / "sweep").rglob("starts"))
    }


def states(trials):
    return [trial.state.name for trial in trials.study.get_trials()]
