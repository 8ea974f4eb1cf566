"""A training step that gathers its batch of a split on the device, and one whose batch is given."""

import statistics
import time
from collections.abc import Callable

import jax

from cnn_jax.data.resident import take_batch
from cnn_jax.placement import replicated
from cnn_jax.training.device_steps import fed_train_step
from cnn_jax.training.feeding import make_feeder
from cnn_jax.training.parallel import compile_step
from cnn_jax.training.setup import build_experiment, initial_state
from cnn_jax.training.state import Purpose, key_for
from experiments import configs
from experiments.contenders.rounds import median_range
from experiments.contenders.task import benchmark_config


def measure(contender: str, seconds: float, *, config: str, turns: int) -> dict[str, float]:
    """Returns steps per second of both, taken in turns, and by how much feeding makes one longer.

    `overhead` is the median of the turns' ratios of the seconds of a step, less one. Images are
    made up, of the dataset's shape and 50,000 of them; augmentation is the config's in both.
    """
    del contender
    steps = _steps(config)
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(turns + 1):
        for name in sorted(steps, reverse=bool(number % 2)):
            rate = _rate(steps[name], seconds)
            if number:  # the first turn only warms up
                rates[name].append(rate)
    pairs = zip(rates["fixed"], rates["fed"], strict=True)
    return {
        "rate": statistics.median(rates["fed"]),
        "fixed_batch_rate": statistics.median(rates["fixed"]),
        **median_range("overhead", [fixed / fed - 1 for fixed, fed in pairs]),
    }


def _steps(name: str) -> dict[str, Callable[[int], None]]:
    original = configs.load(name)
    config = benchmark_config(original)
    config.data.synthetic.train_examples = 50_000
    config.data.augment = original.data.augment
    experiment = build_experiment(config)
    feeder = make_feeder(experiment, 0)
    batch = jax.jit(take_batch, static_argnames="batch_size")(
        feeder(0), 0, batch_size=config.data.batch_size
    )
    return {
        "fed": _runner(experiment, feeder.example(), feeder),
        "fixed": _runner(experiment, batch, lambda step: batch),
    }


def _runner(experiment, example, feed: Callable) -> Callable[[int], None]:
    mesh = experiment.mesh
    state, taken = initial_state(experiment), 0
    key = jax.device_put(key_for(0, Purpose.STEP), replicated(mesh))
    step = compile_step(fed_train_step(experiment), (state, example, key), mesh=mesh, donate=True)

    def run(steps: int) -> None:
        nonlocal state, taken
        for _ in range(steps):
            state, sums = step(state, feed(taken), key)
            taken += 1
        jax.block_until_ready(sums)

    return run


def _rate(run: Callable[[int], None], seconds: float) -> float:
    """Returns steps per second, over about so many seconds."""
    began = time.perf_counter()
    run(2)
    steps = max(2, round(2 * seconds / (time.perf_counter() - began)))
    began = time.perf_counter()
    run(steps)
    return steps / (time.perf_counter() - began)
