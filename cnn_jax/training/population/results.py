"""What a population's result says of all its members: means, and what comes of which values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn_jax.spread import spread
from cnn_jax.training.population.standing import cut_short

Result = dict[str, Any]

_OTHERS = ("test_top5_accuracy", "test_label_accuracy")  # accuracies that some data gets

# In a member's own result.json; in the population's they are said once, for all.
_OF_ALL = (
    "seconds",
    "versions",
    "platform",
    "device_kind",
    "devices",
    "processes",
    "git_commit",
    "command",
)


def mean_row(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the means over the members' rows, and the best accuracy among them.

    >>> mean_row([{"train_accuracy": 0.5}, {"train_accuracy": 0.75}])
    {'train_accuracy': 0.625, 'best_accuracy': 0.75}
    """
    accuracy = "validation_accuracy" if "validation_accuracy" in rows[0] else "train_accuracy"
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return means | {"best_accuracy": max(row[accuracy] for row in rows)}


def summary(results: Sequence[Result], values: Sequence[Mapping[str, float]]) -> Result:
    """Returns the means over the members that went to their end, and the members' own results.

    Args:
      results: of every member, as its own `result.json` has it.
      values: the combinations of values; each gets the spread of the accuracy over its seeds.
    """
    kept = [result for result in results if not cut_short(result)]
    accuracy = spread([result["test_accuracy"] for result in kept])
    others = [name for name in _OTHERS if name in kept[0]]
    losses = [result["test_loss"] for result in kept if math.isfinite(result["test_loss"])]
    bests = [{**r["best_validation"], "member": r["member"]} for r in kept if r["best_validation"]]
    return {
        "skipped_steps": sum(result["skipped_steps"] for result in results),
        "best_validation": max(bests, key=lambda best: best["accuracy"], default=None),
        "test_accuracy": accuracy["mean"],
        "test_accuracy_std": accuracy["std"],
        "test_accuracy_ci95": accuracy["ci95"],
        **{name: spread([result[name] for result in kept])["mean"] for name in others},
        "test_loss": spread(losses)["mean"] if losses else None,
        "combinations": [_combination(each, kept) for each in values],
        "members": [{k: v for k, v in r.items() if k not in _OF_ALL} for r in results],
    }


def _combination(values: Mapping[str, float], kept: Sequence[Result]) -> Result:
    same = [r["test_accuracy"] for r in kept if values.items() >= r["values"].items()]
    return {"values": dict(values), "test_accuracy": spread(same) if same else None}
