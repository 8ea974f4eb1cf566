"""After which of its steps a run writes a row, evaluates and saves, and how many a call takes."""

from collections.abc import Callable, Iterator

from cnn_jax.config import is_population, steps_per_epoch
from cnn_jax.errors import InputError
from cnn_jax.training.setup import Experiment

_MOST = 32  # steps that a stop request waits for, at most, unless the config asks for more


def evaluations_every(experiment: Experiment) -> int:
    """Returns how many steps lie between two evaluations of a run."""
    return experiment.config.train.eval_every or _epoch(experiment)


def checkpoints_every(experiment: Experiment) -> int:
    """Returns how many steps lie between two checkpoints of a run."""
    return experiment.config.train.checkpoint_every or _epoch(experiment)


def _epoch(experiment: Experiment) -> int:
    return steps_per_epoch(experiment.config, len(experiment.dataset.train))


def evaluation_is_due(experiment: Experiment, step: int) -> bool:
    """Tells whether a run with a validation split is evaluated on it after a step."""
    return step == experiment.steps or step % evaluations_every(experiment) == 0


def checkpoint_is_due(experiment: Experiment, step: int) -> bool:
    """Tells whether a run is saved after a step, whatever else happens there."""
    return step == experiment.steps or step % checkpoints_every(experiment) == 0


def row_is_due(experiment: Experiment, step: int) -> bool:
    """Tells whether a row of metrics is written after a step.

    One is at every checkpoint, so that a resumed run writes the same rows, and at every evaluation,
    whose metrics it holds.
    """
    return (
        step % experiment.config.train.log_every == 0
        or evaluation_is_due(experiment, step)
        or checkpoint_is_due(experiment, step)
    )


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


def calls_from(experiment: Experiment, start: int) -> Iterator[tuple[int, int]]:
    """Yields the last step and the number of steps of each call of a run that goes on at a step."""
    most = steps_at_once(experiment)
    return calls(start, experiment.steps, most=most, due=lambda step: row_is_due(experiment, step))


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
