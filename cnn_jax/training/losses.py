"""Loss functions: logits and labels in, one value per example out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt8

from cnn_jax.layers.precision import widen

LossFn = Callable[[jax.Array, dict[str, jax.Array]], jax.Array]  # of the logits and the batch
Labels = Int[Array, " n"] | UInt8[Array, "n classes"] | Float[Array, "n classes"]


def cross_entropy(
    logits: Float[Array, "n classes"],
    labels: Int[Array, " n"] | Float[Array, "n classes"],
    *,
    label_smoothing: ArrayLike = 0.0,
    class_weights: Float[Array, " classes"] | None = None,
) -> Float[Array, " n"]:
    """Returns -log p(label), computed in float32 at least.

    Labels are classes or, as mixup leaves them, shares of the classes that sum to one: then it is
    the mean over these.

    With smoothing s the target is 1 - s + s / classes for the label and s / classes for the others
    (Szegedy et al., arXiv 1512.00567, section 7). Class weights multiply the terms of the sum over
    the classes, as PyTorch's do; PyTorch then divides a batch by its weights, we by its examples.

    >>> losses = cross_entropy(jnp.zeros((2, 10)), jnp.array([3, 7]))
    >>> losses.shape, round(losses[0].item(), 4)  # ln 10, which guessing has
    ((2,), 2.3026)
    """
    log_p = jax.nn.log_softmax(widen(logits))
    weighted = log_p if class_weights is None else log_p * class_weights.astype(log_p.dtype)[None]
    # Picked by comparison and not by index, whose gradient would scatter: in no fixed order on a
    # GPU, and slow there where it has one.
    picked = jnp.sum(targets_of(labels, log_p) * weighted, axis=-1)
    return -((1 - label_smoothing) * picked + label_smoothing * weighted.mean(axis=-1))


def binary_cross_entropy(
    logits: Float[Array, "n classes"],
    labels: Labels,
    *,
    label_smoothing: ArrayLike = 0.0,
    class_weights: Float[Array, " classes"] | None = None,
) -> Float[Array, " n"]:
    """Returns the mean over the classes of -log p(there or not), each class with its own sigmoid.

    Labels are vectors of zeros and ones, any number of ones in each (multi-label), shares between
    them, or classes: then every class is told from all others (one against the rest).

    With smoothing s a target t is t · (1 - s) + s / 2. A class's weight multiplies the loss where
    the class is there, as PyTorch's `pos_weight`.

    >>> losses = binary_cross_entropy(jnp.zeros((2, 10)), jnp.array([3, 7]))
    >>> losses.shape, round(losses[0].item(), 4)  # ln 2, which guessing has
    ((2,), 0.6931)
    """
    logits = widen(logits)
    targets = targets_of(labels, logits)
    there, absent = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    if class_weights is not None:
        there = there * class_weights.astype(there.dtype)[None]
    targets = targets * (1 - label_smoothing) + label_smoothing / 2
    return -jnp.mean(targets * there + (1 - targets) * absent, axis=-1)


def targets_of(labels: Labels, logits: Float[Array, "n classes"]) -> Float[Array, "n classes"]:
    """Returns labels as shares of each class, in the type of the logits.

    >>> targets_of(jnp.array([1, 0]), jnp.zeros((2, 2))).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    if labels.ndim == 1:
        return jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return labels.astype(logits.dtype)


def of_labels(loss: Callable[..., jax.Array], **options: Any) -> LossFn:
    """Returns loss_fn(logits, batch), as the step takes it, of a loss of logits and labels.

    >>> loss_fn = of_labels(cross_entropy, label_smoothing=0.1)
    >>> loss_fn(jnp.zeros((2, 10)), {"label": jnp.array([3, 7])}).shape
    (2,)
    """
    return lambda logits, batch: loss(logits, batch["label"], **options)
