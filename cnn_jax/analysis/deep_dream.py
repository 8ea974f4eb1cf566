"""DeepDream: images redrawn so that a layer sees more of what it sees in them already.

Mordvintsev, Olah, Tyka: Inceptionism: Going Deeper into Neural Networks, Google Research blog,
2015.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key, PyTree

from cnn_jax.analysis.activation_maximization import shifted
from cnn_jax.analysis.features import Images, Prepare, activation
from cnn_jax.analysis.iteration import iterate
from cnn_jax.layers import identity

OCTAVE_SCALE = 1.4  # by which an octave is larger than the one before


def deep_dream(
    key: Key[Array, ""],
    model: nn.Module,
    variables: PyTree,
    images: Images,
    *,
    layer: str,
    octaves: int = 4,
    octave_scale: float = OCTAVE_SCALE,
    steps: int = 20,
    step_size: float = 0.01,
    jitter: int = 16,
    prepare: Prepare = identity,
) -> Images:
    """Returns images in [0, 1] that make the squares of a layer's output large.

    Ascent begins on the images shrunk by octave_scale ** (octaves − 1); what it adds is enlarged
    and goes on at the next octave, until the images have their own size. A layer before the first
    dense one takes images of any size. A step moves pixels by `step_size` on average.

    Raises:
      InputError: the model has no such layer.
    """
    step = _DreamStep(model, prepare, layer, jitter, step_size)
    sizes = octave_sizes(images.shape[1:3], octaves, octave_scale)
    dream = base = _resize(images, sizes[0])
    for octave, (size, octave_key) in enumerate(
        zip(sizes, jax.random.split(key, octaves), strict=True)
    ):
        if octave:
            added = _resize(dream - base, size)
            base = _resize(images, size)
            dream = base + added
        dream = iterate(step, dream, jax.random.split(octave_key, steps), variables)
    return dream


def octave_sizes(size: tuple[int, int], octaves: int, scale: float) -> list[tuple[int, int]]:
    """Returns height and width at each octave, the smallest first.

    >>> octave_sizes((140, 280), 2, 1.4)
    [(100, 200), (140, 280)]
    """
    powers = [scale**octave for octave in reversed(range(octaves))]
    return [tuple(round(side / power) for side in size) for power in powers]


def _resize(images: Images, size: tuple[int, int]) -> Float[Array, "n oh ow c"]:
    return jax.image.resize(images, (len(images), *size, images.shape[-1]), "linear")


@dataclass(frozen=True)
class _DreamStep:
    model: nn.Module
    prepare: Prepare
    layer: str
    jitter: int
    step_size: float

    def __call__(self, images: Images, key: Key[Array, ""], variables: PyTree) -> Images:
        def strength(images: Images) -> Array:
            moved = shifted(key, images, self.jitter)
            maps = activation(self.model, variables, moved, layer=self.layer, prepare=self.prepare)
            return jnp.square(maps).mean(range(1, maps.ndim)).sum()

        gradient = jax.grad(strength)(images)
        scale = jnp.abs(gradient).mean((1, 2, 3), keepdims=True)
        return jnp.clip(images + self.step_size * gradient / (scale + 1e-8), 0, 1)
