"""Metrics are sums that merge; the division comes last, on the host."""

import math
from collections.abc import Callable, Iterable, Mapping

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, UInt8

Sums = dict[str, Array]
SumsFn = Callable[..., Sums]  # of logits, labels, losses and perhaps a mask

_PER_EXAMPLE = {
    "loss": "loss",
    "correct": "accuracy",
    "top5_correct": "top5_accuracy",
    "labels_correct": "label_accuracy",
}
_MANY_CLASSES = 20  # among fewer the five best say little


def classification_sums(
    logits: Float[Array, "n classes"],
    labels: Int[Array, " n"] | Float[Array, "n classes"],
    losses: Float[Array, " n"],
    mask: Bool[Array, " n"] | None = None,
) -> Sums:
    """Returns the sums over a batch: `loss`, `correct`, `examples`; masked examples count nowhere.

    Of 20 classes and more also `top5_correct`, examples whose class is among the five best. Where
    labels are shares of the classes, the one with the largest share is the right one.
    """
    classes = labels if labels.ndim == 1 else jnp.argmax(labels, axis=-1)
    correct = jnp.argmax(logits, axis=-1) == classes
    mask = jnp.ones_like(correct) if mask is None else mask
    sums = {
        "loss": jnp.sum(jnp.where(mask, losses, jnp.zeros_like(losses))),
        "correct": jnp.sum(correct & mask),
        "examples": jnp.sum(mask),
    }
    if logits.shape[-1] >= _MANY_CLASSES:
        sums["top5_correct"] = jnp.sum((_rank(logits, classes) < 5) & mask)
    return sums


def _rank(logits: Float[Array, "n classes"], classes: Int[Array, " n"]) -> Int[Array, " n"]:
    """Returns the place of each class among the logits, from 0; the first of equals is the better.

    A NaN is better than any class, and worse if it is the class's own.
    """
    own = jnp.take_along_axis(logits, classes[:, None], axis=-1)
    earlier = lax.broadcasted_iota(classes.dtype, logits.shape, 1) < classes[:, None]
    better = ~(logits <= own) | ((logits == own) & earlier)
    return jnp.sum(better, axis=-1)


def multi_label_sums(
    logits: Float[Array, "n classes"],
    labels: UInt8[Array, "n classes"] | Float[Array, "n classes"],
    losses: Float[Array, " n"],
    mask: Bool[Array, " n"] | None = None,
) -> Sums:
    """Returns the sums over a batch whose examples have any number of labels each.

    A label is predicted where its sigmoid is above a half. `correct` counts the examples with every
    label right (exact match), `labels_correct` sums each example's share of right labels.
    """
    right = (logits > 0) == (labels > jnp.asarray(0.5).astype(labels.dtype))
    mask = jnp.ones(len(right), bool) if mask is None else mask
    share = right.mean(axis=-1, dtype=losses.dtype)
    return {
        "loss": jnp.sum(jnp.where(mask, losses, jnp.zeros_like(losses))),
        "correct": jnp.sum(right.all(axis=-1) & mask),
        "labels_correct": jnp.sum(jnp.where(mask, share, jnp.zeros_like(share))),
        "examples": jnp.sum(mask),
    }


def merge(sums: Iterable[dict[str, ArrayLike]]) -> dict[str, float]:
    """Returns the totals of sums that are on the host, in float64."""
    sums = list(sums)
    return {name: float(np.sum([np.float64(s[name]) for s in sums])) for name in sums[0]}


def compute(totals: dict[str, float]) -> dict[str, float]:
    """Returns the means per example, `loss`, `accuracy` and, if they were summed, `top5_accuracy`
    and `label_accuracy`; everything else per step. Means of nothing are NaN.

    >>> compute({"loss": 6.0, "correct": 3.0, "examples": 4.0})
    {'loss': 1.5, 'accuracy': 0.75}
    """
    means = {
        name: totals[key] / (totals["examples"] or math.nan)
        for key, name in _PER_EXAMPLE.items()
        if key in totals
    }
    per_step = set(totals) - {*_PER_EXAMPLE, "examples", "steps"}
    return means | {name: totals[name] / (totals["steps"] or math.nan) for name in sorted(per_step)}


def score(metrics: Mapping[str, float], monitor: str) -> float:
    """Returns how good validation metrics are, the higher the better: accuracy, or minus the loss.

    >>> score({"loss": 0.5, "accuracy": 0.75}, "loss")
    -0.5
    """
    return -metrics["loss"] if monitor == "loss" else metrics[monitor]
