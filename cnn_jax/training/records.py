"""What a run says of itself first, and what its rows and its result hold."""

from typing import Any

import jax

from cnn_jax.config import Config
from cnn_jax.metric_rows import Row
from cnn_jax.training import provenance
from cnn_jax.training.feeding import feed_line
from cnn_jax.training.metrics import compute, score
from cnn_jax.training.parallel import once_options
from cnn_jax.training.setup import Experiment


def introduction(experiment: Experiment, parameters: int) -> str:
    """Returns the two lines by which a run begins."""
    config, dataset = experiment.config, experiment.dataset
    return (
        f"{config.name or config.model.name}: {parameters:,} parameters, "
        f"{len(dataset.train):,} training images of {dataset.spec.name}, "
        f"{experiment.steps} steps on {provenance.device_line(experiment.mesh)}\n"
        f"{feed_line(experiment)}"
    )


def position(experiment: Experiment, step: int) -> Row:
    """Returns a step, and how many epochs it is."""
    images = step * experiment.config.data.batch_size
    return {"step": step, "epoch": images / len(experiment.dataset.train)}


def train_means(experiment: Experiment, updates: int, totals: dict[str, float]) -> Row:
    """Returns the training metrics of the steps up to so many updates; `totals` are their sums."""
    means = compute(totals)
    # Whole: operation by operation, a schedule takes ten times as long to compile.
    rate_at = jax.jit(experiment.learning_rate, compiler_options=once_options())
    rate = float(rate_at(max(0, updates - 1))) * means.pop("rate_scale", 1.0)
    return {f"train_{name}": value for name, value in means.items()} | {"learning_rate": rate}


def outcome(
    experiment: Experiment,
    config: Config,
    *,
    parameters: int,
    resumed_from: int,
    steps: int,
    skipped: int,
    best: tuple[int, float] | None,
) -> dict[str, Any]:
    """Returns what a result says of the run itself, before what it came to on the test split.

    Args:
      experiment: the run's fixed parts, but for its config.
      config: the run's own; of a population's member that of the run alone.
      parameters: how many the network has.
      resumed_from: the step at which this process took it up.
      steps: how many it took.
      skipped: those of them whose gradient was not finite.
      best: the step of the best validation, and its score.
    """
    dataset, monitor = experiment.dataset, config.train.monitor
    return {
        "config": config.name,
        "seed": config.seed,
        "steps": steps,
        "skipped_steps": skipped,
        "resumed_from_step": resumed_from,
        "test_examples": len(dataset.test),
        "best_validation": best and {"step": best[0], monitor: score({monitor: best[1]}, monitor)},
        "synthetic_data": dataset.spec.synthetic,
        "skipped_examples": list(dataset.skipped),
        "parameters": parameters,
    }


def costs(experiment: Experiment, seconds: dict[str, float], steps: int) -> dict[str, Any]:
    """Returns where the seconds of a process went, in which so many batches were trained on."""
    images = steps * experiment.config.data.batch_size
    training, waited = train_seconds(seconds), seconds.get("input", 0.0)
    return {
        "feed": experiment.dataset.feed,
        "train_seconds": training,
        "compile_seconds": seconds["compile"],
        "evaluate_seconds": seconds["evaluate"],
        "input_wait_seconds": waited,
        "input_wait_fraction": waited / training if images else None,
        "images_per_second": images / training if images else None,
        "seconds": seconds,
        **provenance.facts(experiment.mesh),
    }


def train_seconds(seconds: dict[str, float]) -> float:
    """Returns the seconds spent on steps, those in which they waited for input among them."""
    return seconds.get("train", 0.0) + seconds.get("input", 0.0)
