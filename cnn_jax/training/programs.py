"""The compiled programs of a run."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from cnn_jax.training.device_steps import fed_train_step, sharded_eval_step
from cnn_jax.training.parallel import compile_step, compiler_options
from cnn_jax.training.setup import Experiment
from cnn_jax.training.state import TrainState, model_variables


class Programs(NamedTuple):
    """What a run calls: programs that train, by the number of their steps, and two that look."""

    train: dict[int, Callable]
    evaluate: Callable
    test: Callable  # averages over the views of an image, if the config asks for them


def compile_programs(
    experiment: Experiment,
    state: TrainState,
    *,
    feed: PyTree,
    key: jax.Array,
    batch: dict[str, jax.Array],
    counts: set[int],
) -> Programs:
    """Returns the programs of a run for arguments like these; `counts` are steps at a call.

    Those that look are compiled while the first steps are taken.
    """
    config, platform = experiment.config, experiment.mesh.devices.flat[0].platform
    options = compiler_options(config.train, platform)
    placement = {"mesh": experiment.mesh, "way": config.parallel, "options": options}
    step, example = fed_train_step(experiment), (state, feed, key)
    train = {
        count: compile_step(repeated(step, count), example, donate=True, **placement)
        for count in counts
    }
    example = jax.eval_shape(model_variables, state), batch
    look = partial(compile_step, sharded_eval_step(experiment), example, **placement)
    evaluate = test = _in_background(look)
    if config.data.test_views:
        step = sharded_eval_step(experiment, test_views=True)
        test = _in_background(partial(compile_step, step, example, **placement))
    return Programs(train, evaluate, test)


def _in_background(make: Callable[[], Callable]) -> Callable:
    """Returns the function that `make` returns, made meanwhile; the first call waits for it."""
    with_thread = ThreadPoolExecutor(1)
    made = with_thread.submit(make)
    with_thread.shutdown(wait=False)
    return lambda *arguments: made.result()(*arguments)


def repeated(step: Callable, count: int) -> Callable:
    """Returns a function of the same arguments that takes so many steps; its sums are stacked.

    The results are those of single steps up to rounding, as the compiler orders sums in its way.
    """
    if count == 1:
        return step

    def steps(state: PyTree, feed: PyTree, key: jax.Array) -> tuple[PyTree, PyTree]:
        return jax.lax.scan(lambda state, _: step(state, feed, key), state, length=count)

    return steps


def each_step(sums: Any, count: int) -> list[Any]:
    """Returns the sums of each of the steps that one call took, from arrays on the host."""
    if count == 1:
        return [sums]
    return [{name: array[i] for name, array in sums.items()} for i in range(count)]
