"""Whole runs in turns: how long each took, and how well it did."""

from typing import Any, NamedTuple

from cnn_jax.cpus import usable_cpus
from experiments.contenders import OURS
from experiments.contenders.rounds import median_range


class Turn(NamedTuple):
    """What one process did."""

    seconds: float
    test_accuracy: float


def record(name: str, turns: dict[str, list[Turn]]) -> dict[str, Any]:
    """Returns what the turns of one contender amount to, beside ours of the same rounds."""
    ratios = [b.seconds / a.seconds for a, b in zip(turns[OURS], turns[name], strict=True)]
    return {
        "contender": name,
        **median_range("seconds", [turn.seconds for turn in turns[name]]),
        **median_range("test_accuracy", [turn.test_accuracy for turn in turns[name]]),
        **median_range("this_over_ours", ratios),
        "rounds": len(turns[name]),
        "cpus": usable_cpus(),
    }
