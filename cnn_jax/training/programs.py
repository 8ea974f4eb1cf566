"""The compiled programs of a run, and which steps are taken by one call."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from cnn_jax.config import is_population
from cnn_jax.errors import InputError
from cnn_jax.training.device_steps import fed_train_step, sharded_eval_step
from cnn_jax.training.parallel import compile_step, compiler_options
from cnn_jax.training.setup import Experiment
from cnn_jax.training.state import TrainState, model_variables

_MOST = 32  # steps that a stop request waits for, at most, unless the config asks for more


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


def steps_at_once(experiment: Experiment) -> int:
    """Returns how many steps a call takes, at most, by `train.steps_per_dispatch` or by itself.

    By itself: on a CPU one, since convolutions inside a loop are several times slower there; on an
    accelerator as many as divide the steps of a row, up to 32. Of a population and with streamed
    batches it is one.

    Raises:
      InputError: there are more in `train.steps_per_dispatch` than whole batches in an epoch.
    """
    config, platform = experiment.config, experiment.mesh.devices.flat[0].platform
    most = len(experiment.dataset.train) // config.data.batch_size
    given = config.train.steps_per_dispatch
    if experiment.dataset.feed == "streaming" or is_population(config):
        if given > 1:
            raise InputError("train.steps_per_dispatch is for one run of resident data; unset it")
        return 1
    if given > most:
        raise InputError(
            f"train.steps_per_dispatch is {given}; it can be {most} at most, the whole batches of "
            "an epoch"
        )
    if given or platform == "cpu":
        return given or 1
    row = config.train.log_every
    return next(n for n in range(min(_MOST, most, row), 0, -1) if row % n == 0)


def calls(
    start: int, stop: int, *, most: int, due: Callable[[int], bool]
) -> Iterator[tuple[int, int]]:
    """Yields for each call the last of its steps and their number, from after `start` to `stop`.

    `most` steps are taken at once where none but the last of them is due, else one is. Which calls
    follow a call depends on its last step alone, so a resumed run makes those of one never stopped.

    >>> list(calls(0, 8, most=3, due=lambda step: step == 4))
    [(3, 3), (4, 1), (7, 3), (8, 1)]
    """
    step = start
    while step < stop:
        within = range(step + 1, step + most)
        count = most if step + most <= stop and not any(map(due, within)) else 1
        step += count
        yield step, count


def each_step(sums: Any, count: int) -> list[Any]:
    """Returns the sums of each of the steps that one call took, from arrays on the host."""
    if count == 1:
        return [sums]
    return [{name: array[i] for name, array in sums.items()} for i in range(count)]
