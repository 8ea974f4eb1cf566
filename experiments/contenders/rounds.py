"""Several contenders measured in turns, and what their turns say."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from cnn_jax.analysis.summary import Summary, summarize
from cnn_jax.config import Config
from cnn_jax.errors import InputError
from experiments.contenders import CEILING, CONTENDERS, OURS, require
from experiments.contenders.task import Task
from experiments.contenders.worker import Worker, WorkerError

# A training step is counted as three forward passes, as the field does: one forward, and one each
# for the gradients of the activations and of the weights.
PASSES = {"train": 3, "inference": 1, "streaming": 3}
_PAUSE = 0.25  # seconds, in which the threads of the contender before fall asleep


@dataclasses.dataclass
class Turns:
    """What one contender did: its facts, and an answer for each round it lived through."""

    facts: dict[str, Any]
    answers: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def steps_per_second(self) -> list[float]:
        """Returns the rate of each round."""
        return [answer["steps"] / answer["seconds"] for answer in self.answers]


def compare(
    config: Config,
    mode: str,
    peers: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    timeout: float,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Returns one record for each contender that could be measured, ours first.

    Every contender has a process of its own, and all live until the end; they take turns, A B C,
    A B C, so that a machine which grows slower does so for all. One that fails is left out and
    `say` is told why.
    """
    ours = Task(config, mode, OURS)
    summary = summarize(ours.model, ours.image_shape)
    turns: dict[str, Turns] = {}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name in (CEILING, OURS, *peers):
            with _reported(name, say):
                worker = _start(Task(config, mode, name), summary, timeout, stack)
                workers[name], turns[name] = worker, Turns(worker.facts)
        for _ in range(rounds):
            for name, worker in list(workers.items()):
                time.sleep(_PAUSE)
                with _reported(name, say, otherwise=lambda name=name: workers.pop(name)):
                    part = 4 if name == CEILING else 1
                    turns[name].answers.append(worker.measure(seconds / part))
    return [
        _record(Task(config, mode, name), turns, summary)
        for name, each in turns.items()
        if name != CEILING and each.answers
    ]


@contextmanager
def _reported(
    name: str, say: Callable[[str], None], otherwise: Callable[[], object] = lambda: None
) -> Iterator[None]:
    try:
        yield
    except (InputError, WorkerError) as error:
        say(f"{name}: {error}")
        otherwise()


def _start(task: Task, summary: Summary, timeout: float, stack: ExitStack) -> Worker:
    require(CONTENDERS[task.contender].packages)
    worker = Worker(task, timeout=timeout)
    stack.callback(worker.close)
    parameters = worker.facts["parameters"]
    if task.contender != CEILING and parameters != summary.trainable:
        raise WorkerError(
            f"has another network: {parameters:,} parameters, not {summary.trainable:,}"
        )
    return worker


def _record(task: Task, turns: dict[str, Turns], summary: Summary) -> dict[str, Any]:
    config, each, batch_size = task.config, turns[task.contender], task.batch_size
    rates = each.steps_per_second()
    flops = PASSES[task.mode] * summary.flops
    speed = [flops * batch_size * rate / 1e9 for rate in rates]
    facts = {key: value for key, value in each.facts.items() if key != "flops"}
    return {
        "config": config.name,
        "model": config.model.name,
        "mode": task.mode,
        "contender": task.contender,
        "batch_size": batch_size,
        "image_shape": list(task.image_shape),
        "dtype": config.train.dtype,
        **median_range("images_per_second", [rate * batch_size for rate in rates]),
        **median_range("ours_over_this", _ratios(turns.get(OURS), rates)),
        "rounds": len(rates),
        "steps_per_round": each.answers[-1]["steps"],
        "flops_per_image": flops,
        "gflops_per_second": statistics.median(speed),
        **_against_ceiling(turns.get(CEILING), speed),
        **facts,
        **{key: each.answers[-1][key] for key in ("peak_memory_bytes", "peak_memory_of")},
    }


def _ratios(ours: Turns | None, rates: list[float]) -> list[float]:
    """Returns ours ÷ this, round by round, as far as both lived."""
    theirs = ours.steps_per_second() if ours else []
    return [a / b for a, b in zip(theirs, rates, strict=False)]


def _against_ceiling(ceiling: Turns | None, speed: list[float]) -> dict[str, float | None]:
    rates = ceiling.steps_per_second() if ceiling else []
    highest = [rate * ceiling.facts["flops"] / 1e9 for rate in rates]
    shares = [a / b for a, b in zip(speed, highest, strict=False)]
    return {
        "ceiling_gflops_per_second": statistics.median(highest) if highest else None,
        "utilization": statistics.median(shares) if shares else None,
    }


def median_range(name: str, values: list[float]) -> dict[str, float | None]:
    """Returns the median of the rounds under that name, with the least and the most."""
    low, middle, high = (
        (min(values), statistics.median(values), max(values)) if values else (None,) * 3
    )
    return {name: middle, f"{name}_min": low, f"{name}_max": high}
