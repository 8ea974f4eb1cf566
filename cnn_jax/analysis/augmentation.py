"""What a config does to its training images, to be looked at."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

from cnn_jax.analysis.figures import contact_sheet
from cnn_jax.config import Augment, Data
from cnn_jax.data.augment import each_alone, make_augment_fn
from cnn_jax.data.normalization import to_unit
from cnn_jax.data.on_disk import ImagesOnDisk
from cnn_jax.errors import InputError
from cnn_jax.training.parallel import once_options

_DRAWS = 8

Crops = UInt8[np.ndarray, "draws n h w c"] | None


def file_crops(
    data: Data,
    images: UInt8[np.ndarray, "size h w c"] | ImagesOnDisk,
    which: Int[np.ndarray, " n"],
    *,
    seed: int,
    draws: int = _DRAWS,
) -> Crops:
    """Returns what training cuts from the files of some examples in its first epochs, if it does.

    None where `data.crop_files` is off, as random crops are then cut on the device.
    """
    if not data.host_crop:
        return None
    crops = partial(images.random_crops, which, seed=seed, area=data.host_crop)
    return np.stack([crops(np.full_like(which, epoch)) for epoch in range(draws)])


def augmentation_sheet(
    augment: Augment,
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    *,
    crops: Crops = None,
    seed: int = 0,
    shown: int = 3,
    draws: int = _DRAWS,
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns a contact sheet: originals, and beside each several draws of what is turned on.

    There is a block of rows for each change by itself and a last one for all of them together.
    The first `shown` images are drawn; the others are there to be mixed with them. Draws count as
    epochs where that matters, as it does for alternating flips and for `crops`, see `file_crops`.

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
        changed = augmented(each, images, labels, crops=crops, seed=seed, draws=draws)
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
    crops: Crops = None,
    seed: int = 0,
    draws: int = _DRAWS,
) -> Float[np.ndarray, "draws n h w c"]:
    """Returns the images of a batch as they come out, draw by draw; draws count as epochs.

    Random crops are the `crops`, if there are some, and are not cut from the images then.
    """
    drawn = np.broadcast_to(images, (draws, *images.shape))
    if crops is not None and augment.resized_crop:
        drawn, augment = crops, dataclasses.replace(augment, resized_crop=0.0)
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
    return np.stack([run(drawn[epoch], labels, np.int32(epoch)) for epoch in range(draws)])
