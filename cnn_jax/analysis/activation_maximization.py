"""Images that a unit or a class answers to most: gradient ascent on the pixels.

Erhan et al.: Visualizing Higher-Layer Features of a Deep Network, 2009; for classes Simonyan et
al., arXiv 1312.6034. Left alone, ascent ends in noise that no photograph has; `Recipe` holds the
usual means against that. The images of many units or classes are one batch, so that all are made by
the same compiled steps.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, PyTree

from cnn_jax.analysis import image_parametrization as parametrization
from cnn_jax.analysis.attribution import Network, check_labels, of_class
from cnn_jax.analysis.features import Images, Prepare, activation
from cnn_jax.analysis.iteration import iterate
from cnn_jax.layers import identity

Targets = Int[Array, " n"]

_SMALL = 32  # pixels; images of a smaller side are made without a penalty on total variation


@dataclass(frozen=True)
class Recipe:
    """How an image is made: Adam's steps, and what keeps the image natural."""

    steps: int = 200
    learning_rate: float = 0.05
    spectrum: bool = True  # ascent by Fourier coefficients; by pixels otherwise
    jitter: int = 4  # the network sees the image shifted by up to this many pixels, anew each step
    blur: float = 0.0  # sigma in pixels of a blur after each step (Yosinski et al., 1506.06579)
    total_variation: float = 1.0  # weight of its penalty (Mahendran and Vedaldi, 1412.0035)


def recipe_for(image_shape: tuple[int, int, int], **given: float) -> Recipe:
    """Returns the usual recipe for images of a size; fields that are `given` stay.

    The usual jitter moves a small image across itself, and the penalty on total variation leaves
    nothing of it but gray.

    >>> recipe_for((8, 8, 1), steps=2)  # doctest: +ELLIPSIS
    Recipe(steps=2, ..., jitter=1, blur=0.0, total_variation=0.0)
    """
    side = min(image_shape[:2])
    usual = {"jitter": min(Recipe.jitter, side // 8)}
    if side < _SMALL:
        usual["total_variation"] = 0.0
    return Recipe(**usual | given)


def class_images(
    key: Key[Array, ""],
    model: nn.Module,
    variables: PyTree,
    classes: Targets,
    *,
    image_shape: tuple[int, int, int],
    recipe: Recipe = Recipe(),
    prepare: Prepare = identity,
) -> Images:
    """Returns an image in [0, 1] for each of `classes` that makes its logit large.

    A class that is named more than once has as many different images; one that there is not is a
    ValueError, where its number is known.

    >>> from cnn_jax.models.registry import build_model, initialize
    >>> model, shape = build_model("fashion_convnet", 10), (28, 28, 1)
    >>> variables = initialize(jax.random.key(0), model=model, image_shape=shape)
    >>> class_images(
    ...     jax.random.key(1), model, variables, jnp.arange(10),
    ...     image_shape=shape, recipe=Recipe(steps=2),
    ... ).shape
    (10, 28, 28, 1)
    """
    objective = Network(model, prepare)
    return _maximize(key, objective, variables, classes, image_shape, recipe)


def channel_images(
    key: Key[Array, ""],
    model: nn.Module,
    variables: PyTree,
    channels: Targets,
    *,
    layer: str,
    image_shape: tuple[int, int, int],
    recipe: Recipe = Recipe(),
    prepare: Prepare = identity,
) -> Images:
    """Returns an image in [0, 1] for each of a layer's `channels` that makes its mean large.

    Before the first dense layer `image_shape` may be larger than the network's own.

    Raises:
      InputError: the model has no such layer.
    """
    objective = _ChannelMean(model, prepare, layer)
    return _maximize(key, objective, variables, channels, image_shape, recipe)


@dataclass(frozen=True)
class _ChannelMean:
    model: nn.Module
    prepare: Prepare
    layer: str

    def __call__(self, variables: PyTree, images: Images) -> Float[Array, "n channels"]:
        maps = activation(self.model, variables, images, layer=self.layer, prepare=self.prepare)
        return maps.mean(range(1, maps.ndim - 1))


def _maximize(
    key: Key[Array, ""],
    objective: Network | _ChannelMean,
    variables: PyTree,
    targets: Targets,
    image_shape: tuple[int, int, int],
    recipe: Recipe,
) -> Images:
    images = jax.ShapeDtypeStruct((len(targets), *image_shape), jnp.float32)
    check_labels(targets, objective, variables, images)
    key, start_key = jax.random.split(key)
    options = {"shape": image_shape, "spectrum": recipe.spectrum}
    numbers = parametrization.start(start_key, count=len(targets), **options)
    step = _Step(objective, recipe, image_shape)
    carry = numbers, step.optimizer.init(numbers)
    keys = jax.random.split(key, recipe.steps)
    numbers, _ = iterate(step, carry, keys, variables, targets)
    return parametrization.to_images(numbers, **options)


@dataclass(frozen=True)
class _Step:
    objective: Network | _ChannelMean
    recipe: Recipe
    image_shape: tuple[int, int, int]

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.recipe.learning_rate)

    def __call__(
        self, carry: PyTree, key: Key[Array, ""], variables: PyTree, targets: Targets
    ) -> PyTree:
        numbers, opt_state = carry
        options = {"shape": self.image_shape, "spectrum": self.recipe.spectrum}

        def loss(numbers: Array) -> Float[Array, ""]:
            images = parametrization.to_images(numbers, **options)
            moved = shifted(key, images, self.recipe.jitter)
            scores = of_class(self.objective(variables, moved), targets)
            penalty = self.recipe.total_variation * parametrization.total_variation(images)
            return (penalty - scores).sum()

        gradient = jax.grad(loss)(numbers)
        with jax.numpy_dtype_promotion("standard"):  # Adam takes powers to an integer count
            updates, opt_state = self.optimizer.update(gradient, opt_state)
        numbers = optax.apply_updates(numbers, updates)
        if self.recipe.blur:
            numbers = parametrization.blur(numbers, sigma=self.recipe.blur, **options)
        return numbers, opt_state


def shifted(key: Key[Array, ""], images: Images, pixels: int) -> Images:
    """Returns the images, all shifted alike by up to `pixels` each way; borders wrap around."""
    down, across = jax.random.randint(key, (2,), -pixels, pixels + 1)
    return jnp.roll(images, (down, across), (1, 2))
