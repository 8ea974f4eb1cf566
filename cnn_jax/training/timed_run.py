"""Whole trainings timed as records of speed are: compiled once, then run from new weights."""

import dataclasses
import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax

from cnn_jax.config import Config, is_population, with_fields
from cnn_jax.config_checks import validate
from cnn_jax.data.resident import Feeder
from cnn_jax.errors import InputError
from cnn_jax.placement import replicated
from cnn_jax.spread import spread
from cnn_jax.training.cadence import calls, steps_at_once
from cnn_jax.training.device_steps import check_shares
from cnn_jax.training.evaluation import evaluate
from cnn_jax.training.feeding import eval_batches, make_feeder
from cnn_jax.training.programs import compile_programs
from cnn_jax.training.setup import build_experiment, check_batch, computed_parameters, state_from
from cnn_jax.training.state import Purpose, key_for, model_variables


class Turn(NamedTuple):
    """What one training came to."""

    seconds: float
    test_accuracy: float


class TimedRun:
    """A run that is compiled once; each call trains and tests it from new weights.

    Raises:
      InputError: the config, the data and the devices don't fit together, or it asks for what a
        timed run does without: several members, early stopping, another run's weights, streaming.
    """

    def __init__(self, config: Config):
        _check(config)
        experiment = build_experiment(config)
        check_batch(experiment)
        check_shares(config, experiment.mesh)
        if experiment.dataset.feed == "streaming":
            raise InputError("a timed run holds its data on the device; set data.feed=resident")
        self.mesh, self._experiment = experiment.mesh, experiment
        self._test = eval_batches(experiment, experiment.dataset.test)
        most = steps_at_once(experiment)
        self._calls = list(calls(0, experiment.steps, most=most, due=lambda step: False))

    def compile(self) -> None:
        """Compiles what a call runs."""
        experiment, seed = self._experiment, self._experiment.config.seed
        first, key = self._keys(seed)
        computed = computed_parameters(experiment)
        draw = jax.jit(partial(state_from, experiment), out_shardings=replicated(self.mesh))
        self._draw = draw.lower(first, None, computed).compile()
        self._programs = compile_programs(
            experiment,
            self._draw(first, None, computed),
            feed=self._feeder(seed).example(),
            key=key,
            batch=next(iter(self._test)),
            counts={count for _, count in self._calls},
        )

    def __call__(self, seed: int) -> Turn:
        """Trains with a seed and tests; the data is on the device before the clock starts."""
        feeder, dataset = self._feeder(seed), self._experiment.dataset
        jax.block_until_ready(feeder.example())
        began = time.perf_counter()
        first, key = self._keys(seed)
        state = self._draw(first, None, computed_parameters(self._experiment))
        for step, count in self._calls:
            state, _ = self._programs.train[count](state, feeder(step - count), key)
        variables = model_variables(state)
        test = evaluate(self._programs.test, variables, self._test, examples=len(dataset.test))
        return Turn(time.perf_counter() - began, test.metrics["accuracy"])

    def _feeder(self, seed: int) -> Feeder:
        config = with_fields(self._experiment.config, {"seed": seed})
        return make_feeder(dataclasses.replace(self._experiment, config=config), 0)

    def _keys(self, seed: int) -> list[jax.Array]:
        keys = [key_for(seed, purpose) for purpose in (Purpose.INIT, Purpose.STEP)]
        return jax.device_put(keys, replicated(self.mesh))


def summary(turns: Sequence[Turn]) -> dict[str, Any]:
    """Returns the accuracy's mean, deviation and half the mean's 95% interval, and the seconds.

    Of one run there is no deviation and no interval; both are None.
    """
    seconds, accuracies = zip(*turns, strict=True)
    told = spread(accuracies)
    return {
        "runs": told["n"],
        "test_accuracy_mean": told["mean"],
        "test_accuracy_std": told["std"],
        "test_accuracy_ci95": told["ci95"],
        "test_accuracy_min": min(accuracies),
        "test_accuracy_max": max(accuracies),
        "seconds": statistics.median(seconds),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
    }


def _check(config: Config) -> None:
    """Raises InputError for what a timed run leaves out, and for a wrong config."""
    validate(config)
    if is_population(config):
        raise InputError("a timed run trains one network after the other; unset the population")
    for field in ("patience", "init_from"):
        if getattr(config.train, field):
            raise InputError(f"a timed run does without train.{field}; unset it")
