"""What a config does to its training images, to be looked at."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

from cnn_jax.analysis.figures import contact_sheet
from cnn_jax.config import Augment
from cnn_jax.data.augment import each_alone, make_augment_fn
from cnn_jax.data.normalization import to_unit
from cnn_jax.errors import InputError
from cnn_jax.training.parallel import once_options


def augmentation_sheet(
    augment: Augment,
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    *,
    seed: int = 0,
    shown: int = 3,
    draws: int = 8,
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns a contact sheet: originals, and beside each several draws of what is turned on.

    There is a block of rows for each change by itself and a last one for all of them together.
    The first `shown` images are drawn; the others are there to be mixed with them. Draws count as
    epochs where that matters, as it does for alternating flips.

    Raises:
      InputError: nothing is turned on, or the images can't be changed so.
    """
    alone = each_alone(augment)
    if not alone:
        raise InputError("no augmentation is on; see the fields of --config.data.augment")
    blocks = {f"{name} {getattr(each, name)}": each for name, each in alone.items()}
    blocks = {caption.removesuffix(" True"): each for caption, each in blocks.items()}
    if len(alone) > 1:
        blocks["all together"] = augment
    originals, rows = to_unit(jnp.asarray(images)), []
    for caption, each in blocks.items():
        changed = augmented(each, images, labels, seed=seed, draws=draws)
        for i in range(min(shown, len(images))):
            row = np.concatenate([originals[i : i + 1], changed[:, i]])
            rows.append((caption if i == 0 else "", row))
    columns = ["original", *(str(draw) for draw in range(1, draws + 1))]
    return contact_sheet(rows, columns=columns)


def first_classes(labels: Integer[np.ndarray, "n *classes"]) -> Integer[np.ndarray, " n"]:
    """Returns a class of each example: of those with several labels the first.

    >>> first_classes(np.array([[0, 1, 1], [1, 0, 1]])).tolist()
    [1, 0]
    """
    return labels if labels.ndim == 1 else labels.argmax(axis=-1)


def augmented(
    augment: Augment,
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    *,
    seed: int = 0,
    draws: int = 8,
) -> Float[np.ndarray, "draws n h w c"]:
    """Returns the images of a batch as they come out, draw by draw; draws count as epochs."""
    augment_fn = make_augment_fn(augment, int(labels.max()) + 1)

    @partial(jax.jit, compiler_options=once_options())
    def run(images: jax.Array, labels: jax.Array, epoch: jax.Array) -> jax.Array:
        batch = {
            "image": to_unit(images),
            "label": labels,
            "index": jnp.arange(len(images), dtype=jnp.int32),
            "epoch": jnp.full_like(labels, epoch),
        }
        return augment_fn(jax.random.split(jax.random.key(seed), draws)[epoch], batch)["image"]

    labels = labels.astype(np.int32)
    return np.stack([run(images, labels, np.int32(epoch)) for epoch in range(draws)])
