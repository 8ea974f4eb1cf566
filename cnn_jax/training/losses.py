"""Loss functions: logits and labels in, one value per example out."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from cnn_jax.layers.precision import widen

LossFn = Callable[[jax.Array, jax.Array], jax.Array]


def cross_entropy(
    logits: Float[Array, "n classes"],
    labels: Int[Array, " n"] | Float[Array, "n classes"],
    *,
    label_smoothing: ArrayLike = 0.0,
) -> Float[Array, " n"]:
    """Returns -log p(label), computed in float32 at least.

    Labels are classes or, as mixup leaves them, shares of the classes that sum to one: then it is
    the mean over these.

    With smoothing s the target is 1 - s + s / classes for the label and s / classes for the others
    (Szegedy et al., arXiv 1512.00567, section 7).
    """
    log_p = jax.nn.log_softmax(widen(logits))
    if labels.ndim == 1:
        picked = jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
    else:
        picked = jnp.sum(labels.astype(log_p.dtype) * log_p, axis=-1)
    return -((1 - label_smoothing) * picked + label_smoothing * log_p.mean(axis=-1))
