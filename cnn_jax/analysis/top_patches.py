"""The places in a data set that the channels of a layer answer to most."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, PyTree

from cnn_jax.analysis.features import Images, Prepare, activation
from cnn_jax.analysis.iteration import hashable
from cnn_jax.analysis.receptive_field import Box
from cnn_jax.layers import identity


class TopPatches(NamedTuple):
    """For each channel the places of the k largest values, the largest first."""

    values: Float[Array, "channels k"]
    images: Int[Array, "channels k"]  # numbers of the images, in the order they came
    positions: Int[Array, "channels k 2"]  # rows and columns in the layer's maps


def top_patches(
    model: nn.Module,
    variables: PyTree,
    batches: Iterable[Images],
    *,
    layer: str,
    count: int = 8,
    prepare: Prepare = identity,
) -> TopPatches:
    """Returns where each channel of a layer is largest over many images, once an image at most.

    A layer without positions, such as a dense one, has them all at (0, 0).

    Raises:
      InputError: the model has no such layer.
    """
    peaks = hashable(_Peaks(model, layer, prepare))
    best, seen = None, 0
    for images in batches:
        found = _found(peaks, variables, images, np.int32(seen))
        if best is not None:
            found = jax.tree.map(lambda *parts: jnp.concatenate(parts, 1), best, found)
        best = _largest(found, count)
        seen += len(images)
    if best is None:
        raise ValueError("there are no images to look for patches in")
    return best


@dataclass(frozen=True)
class _Peaks:
    """The largest value of each channel in each image, and where it is."""

    model: nn.Module
    layer: str
    prepare: Prepare

    def __call__(self, variables: PyTree, images: Images, seen: Int[Array, ""]) -> TopPatches:
        maps = activation(self.model, variables, images, layer=self.layer, prepare=self.prepare)
        width = maps.shape[2] if maps.ndim == 4 else 1
        flat = maps.reshape(len(images), -1, maps.shape[-1])
        at = flat.argmax(1).T
        numbers = jnp.broadcast_to(seen + jnp.arange(len(images), dtype=jnp.int32), at.shape)
        positions = jnp.stack(jnp.divmod(at, width), -1)
        return TopPatches(flat.max(1).T, numbers, positions)


@partial(jax.jit, static_argnums=0)
def _found(peaks: Callable, *arrays: PyTree) -> TopPatches:
    return peaks(*arrays)


@partial(jax.jit, static_argnums=1)
def _largest(found: TopPatches, count: int) -> TopPatches:
    values, chosen = jax.lax.top_k(found.values, min(count, found.values.shape[1]))
    take = lambda array: jnp.take_along_axis(array, chosen, 1)
    positions = jnp.take_along_axis(found.positions, chosen[..., None], 1)
    return TopPatches(values, take(found.images), positions)


def cut(image: np.ndarray, box: Box, *, fill: float = 0.5) -> np.ndarray:
    """Returns what lies within a box of an image (H, W, C), `fill` where it reaches beyond.

    >>> cut(np.ones((4, 4, 1)), Box(-1, 0, 1, 2))[..., 0].tolist()
    [[0.5, 0.5], [1.0, 1.0]]
    >>> cut(np.ones((4, 4, 1)), Box(-2, -2, -1, -1)).ravel().tolist()
    [0.5]
    """
    height, width, channels = image.shape
    patch = np.full((box.bottom - box.top, box.right - box.left, channels), fill, image.dtype)
    top, left = max(box.top, 0), max(box.left, 0)
    bottom, right = min(box.bottom, height), min(box.right, width)
    if top < bottom and left < right:
        inside = slice(top - box.top, bottom - box.top), slice(left - box.left, right - box.left)
        patch[inside] = image[top:bottom, left:right]
    return patch
