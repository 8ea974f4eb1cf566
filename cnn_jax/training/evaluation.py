"""Exact evaluation: every example of a split counts once, at any batch size and device count."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PyTree

from cnn_jax.data.spec import Split
from cnn_jax.training.device_steps import sharded_eval_step
from cnn_jax.training.feeding import eval_batches
from cnn_jax.training.metrics import compute, merge
from cnn_jax.training.setup import Experiment
from cnn_jax.training.state import TrainState, model_variables


class Evaluation(NamedTuple):
    """What one pass over a split gives."""

    metrics: dict[str, float]  # loss, accuracy
    examples: int
    logits: Float[np.ndarray, "n classes"]


def evaluate(
    eval_step: Callable,
    variables: PyTree,
    batches: Iterable[dict[str, jax.Array]],
    *,
    examples: int,
) -> Evaluation:
    """Returns metrics and logits over a whole split.

    Args:
      eval_step: eval_step(variables, batch) -> (sums, logits), compiled.
      variables: what the model takes.
      batches: the split in order, the last batch padded; `mask` is false for the padding.
      examples: how many true examples the split has; the count is checked against it.
    """
    outputs = []
    for batch in batches:
        outputs.append(eval_step(variables, batch))
        jax.block_until_ready(outputs[-2:-1])  # or streamed batches would pile up on the device
    sums, logits = zip(*jax.device_get(outputs), strict=True)
    totals = merge(sums)
    if totals["examples"] != examples:
        raise AssertionError(f"evaluated {totals['examples']:.0f} of {examples} examples")
    return Evaluation(compute(totals), examples, np.concatenate(logits)[:examples])


def evaluate_state(experiment: Experiment, state: TrainState, split: Split) -> Evaluation:
    """Returns what a state comes to on a split, by the views that the config tests by."""
    return evaluate(
        jax.jit(sharded_eval_step(experiment, test_views=True)),
        model_variables(state),
        eval_batches(experiment, split),
        examples=len(split),
    )
