"""Which pixels a decision rests on.

Every function explains the logit of one class for each image: `labels` says which. Images are
pixels in [0, 1], `prepare` turns them into what the network takes, and gradients are by pixels.
Signed gradients keep the channels; `per_pixel` makes one number of them, to be drawn. A label
that is no class is a ValueError; inside of a compiled function it can't be told.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, PyTree

from cnn_jax.analysis.features import Images, Prepare, activation, with_offset
from cnn_jax.analysis.iteration import iterate, output_shape
from cnn_jax.errors import InputError
from cnn_jax.layers import identity
from cnn_jax.layers.arithmetic import per_dimension

Labels = Int[Array, " n"]
Map = Float[Array, "n h w"]


@dataclass(frozen=True)
class Network:
    """A model behind its preparation; equal ones find again what is compiled for one of them."""

    model: nn.Module
    prepare: Prepare

    def __call__(self, variables: PyTree, images: Images) -> Float[Array, "n classes"]:
        """Returns the logits."""
        return self.model.apply(variables, self.prepare(images), train=False)

    def scores(self, variables: PyTree, images: Images, labels: Labels) -> Float[Array, " n"]:
        """Returns each example's logit of its class."""
        return of_class(self(variables, images), labels)

    def gradient(self, variables: PyTree, images: Images, labels: Labels) -> Images:
        """Returns the gradient of `scores` by the pixels."""
        return jax.grad(lambda x: self.scores(variables, x, labels).sum())(images)


def of_class(logits: Float[Array, "n classes"], labels: Labels) -> Float[Array, " n"]:
    """Returns each example's logit of its class.

    Raises ValueError for a label that is no class, where its value is known.

    >>> of_class(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0])).tolist()
    [2.0, 3.0]
    """
    _check_range(labels, logits.shape[1])
    return jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]


def check_labels(labels: Labels, scores: Callable, *arrays: PyTree) -> None:
    """Raises ValueError for a label that is no column of scores(*arrays), where its value is known.

    >>> check_labels(jnp.array([0, 3]), jnp.outer, jnp.ones(2), jnp.ones(4))
    """
    if not isinstance(labels, jax.core.Tracer):
        _check_range(labels, output_shape(scores, *arrays)[1])


def _check_range(labels: Labels, count: int) -> None:
    if isinstance(labels, jax.core.Tracer):
        return
    for label in np.asarray(labels):
        if not 0 <= label < count:
            raise ValueError(f"there is no class or channel {label}, only 0 to {count - 1}")


def saliency(
    model: nn.Module,
    variables: PyTree,
    images: Images,
    labels: Labels,
    *,
    prepare: Prepare = identity,
) -> Images:
    """Returns the gradient of the class's logit by the pixels (arXiv 1312.6034, section 3).

    >>> from cnn_jax.models.registry import build_model, initialize
    >>> model, images = build_model("fashion_convnet", 10), jnp.ones((2, 28, 28, 1))
    >>> variables = initialize(jax.random.key(0), model=model, image_shape=(28, 28, 1))
    >>> saliency(model, variables, images, jnp.array([3, 7])).shape
    (2, 28, 28, 1)
    """
    return Network(model, prepare).gradient(variables, images, labels)


def smooth_grad(
    key: Key[Array, ""],
    model: nn.Module,
    variables: PyTree,
    images: Images,
    labels: Labels,
    *,
    samples: int = 32,
    noise: float = 0.15,
    prepare: Prepare = identity,
) -> Images:
    """Returns the mean gradient over noisy copies of the images (SmoothGrad, arXiv 1706.03825).

    `noise` is the deviation of the Gaussian noise as a share of each image's range of values.

    Raises ValueError unless there is a sample at least.

    >>> from cnn_jax.models.registry import build_model, initialize
    >>> model, images = build_model("fashion_convnet", 10), jnp.ones((2, 28, 28, 1))
    >>> variables = initialize(jax.random.key(0), model=model, image_shape=(28, 28, 1))
    >>> arrays = (variables, images, jnp.array([3, 7]))
    >>> smooth_grad(jax.random.key(1), model, *arrays, samples=4).shape
    (2, 28, 28, 1)
    """
    per_dimension(samples, 1, "samples")
    network = Network(model, prepare)
    check_labels(labels, network, variables, images)
    spread = images.max((1, 2, 3), keepdims=True) - images.min((1, 2, 3), keepdims=True)
    step = _SmoothStep(network)
    keys = jax.random.split(key, samples)
    arrays = (variables, images, labels, noise * spread)
    return iterate(step, jnp.zeros_like(images), keys, *arrays) / samples


@dataclass(frozen=True)
class _SmoothStep:
    network: Network

    def __call__(
        self,
        total: Images,
        key: Key[Array, ""],
        variables: PyTree,
        images: Images,
        labels: Labels,
        deviation: Float[Array, "n 1 1 1"],
    ) -> Images:
        noisy = images + deviation * jax.random.normal(key, images.shape, images.dtype)
        return total + self.network.gradient(variables, noisy, labels)


def integrated_gradients(
    model: nn.Module,
    variables: PyTree,
    images: Images,
    labels: Labels,
    *,
    baseline: Float[Array, "#n #h #w #c"] | float = 0.0,
    steps: int = 32,
    prepare: Prepare = identity,
) -> Images:
    """Returns each value's share in the logit's change from a baseline to the image.

    (image − baseline) times the mean gradient on the straight way between them (arXiv 1703.01365),
    by the midpoint rule. The shares of an image sum up to logit(image) − logit(baseline), the more
    exactly the more steps: this is the method's completeness.

    Raises ValueError unless there is a step at least.

    >>> from cnn_jax.models.registry import build_model, initialize
    >>> model, images = build_model("fashion_convnet", 10), jnp.ones((2, 28, 28, 1))
    >>> variables = initialize(jax.random.key(0), model=model, image_shape=(28, 28, 1))
    >>> shares = integrated_gradients(model, variables, images, jnp.array([3, 7]))
    >>> logits, black = (model.apply(variables, x, train=False) for x in (images, 0 * images))
    >>> change = of_class(logits - black, jnp.array([3, 7]))
    >>> bool(jnp.allclose(shares.sum((1, 2, 3)), change, atol=1e-3))
    True
    """
    per_dimension(steps, 1, "steps")
    network = Network(model, prepare)
    check_labels(labels, network, variables, images)
    baseline = jnp.broadcast_to(jnp.asarray(baseline, images.dtype), images.shape)
    along = (jnp.arange(steps, dtype=images.dtype) + 0.5) / steps
    step = _PathStep(network)
    total = iterate(step, jnp.zeros_like(images), along, variables, images, labels, baseline)
    return (images - baseline) * total / steps


@dataclass(frozen=True)
class _PathStep:
    network: Network

    def __call__(
        self,
        total: Images,
        share: Float[Array, ""],
        variables: PyTree,
        images: Images,
        labels: Labels,
        baseline: Images,
    ) -> Images:
        between = baseline + share * (images - baseline)
        return total + self.network.gradient(variables, between, labels)


def grad_cam(
    model: nn.Module,
    variables: PyTree,
    images: Images,
    labels: Labels,
    *,
    layer: str,
    prepare: Prepare = identity,
) -> Map:
    """Returns where a layer's maps speak for the class (Grad-CAM, arXiv 1610.02391).

    The positive part of the maps' sum, each weighted by its mean gradient; enlarged to the images'
    size, linearly. `layer` is one that returns maps, usually the last.

    Raises:
      InputError: the model has no such layer, or it returns no maps.

    >>> from cnn_jax.models.registry import build_model, initialize
    >>> model, images = build_model("fashion_convnet", 10), jnp.ones((2, 28, 28, 1))
    >>> variables = initialize(jax.random.key(0), model=model, image_shape=(28, 28, 1))
    >>> maps = grad_cam(model, variables, images, jnp.array([3, 7]), layer="conv1")
    >>> maps.shape, bool((maps >= 0).all())
    ((2, 28, 28), True)
    """

    def score(offset: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, maps = with_offset(model, variables, images, offset, layer=layer, prepare=prepare)
        return of_class(logits, labels).sum(), maps

    like = jax.eval_shape(
        lambda: activation(model, variables, images, layer=layer, prepare=prepare)
    )
    if like.ndim != images.ndim:
        raise InputError(f"the layer '{layer}' returns no maps, but an array of shape {like.shape}")
    gradients, maps = jax.grad(score, has_aux=True)(jnp.zeros(like.shape, like.dtype))
    weights = gradients.mean((1, 2), keepdims=True)
    cam = jax.nn.relu((weights * maps).sum(-1))
    return jax.image.resize(cam, images.shape[:3], "linear")


def occlusion(
    model: nn.Module,
    variables: PyTree,
    images: Images,
    labels: Labels,
    *,
    window: int,
    stride: int = 1,
    fill: float = 0.5,
    prepare: Prepare = identity,
) -> Map:
    """Returns by how much the logit falls where a square hides the image (arXiv 1311.2901).

    Each pixel has the mean over the squares of `window` pixels that cover it; they lie `stride`
    apart, and the last ones at the far borders, so that every pixel is covered.

    Raises:
      ValueError: if the stride is larger than the window, which leaves pixels uncovered, or is
        not positive.

    >>> from cnn_jax.models.registry import build_model, initialize
    >>> model, images = build_model("fashion_convnet", 10), jnp.ones((2, 28, 28, 1))
    >>> variables = initialize(jax.random.key(0), model=model, image_shape=(28, 28, 1))
    >>> occlusion(model, variables, images, jnp.array([3, 7]), window=14, stride=7).shape
    (2, 28, 28)
    """
    per_dimension(stride, 1, "stride")
    if stride > window:
        raise ValueError(f"a stride of {stride} leaves pixels out between windows of {window}")
    height, width = images.shape[1:3]
    places = [
        (top, left)
        for top in _starts(height, window, stride)
        for left in _starts(width, window, stride)
    ]
    network = Network(model, prepare)
    whole = network.scores(variables, images, labels)
    zeros = jnp.zeros(images.shape[:3]), jnp.zeros(images.shape[1:3])
    arrays = (variables, images, labels, whole)
    step = _OcclusionStep(network, window, fill)
    drops, covered = iterate(step, zeros, jnp.array(places, jnp.int32), *arrays)
    return drops / covered[None]


def _starts(size: int, window: int, stride: int) -> list[int]:
    """Returns where windows start: every `stride`, and one that ends at the border."""
    last = max(0, size - window)
    return sorted({*range(0, last + 1, stride), last})


@dataclass(frozen=True)
class _OcclusionStep:
    network: Network
    window: int
    fill: float

    def __call__(
        self,
        carry: tuple[Map, Float[Array, "h w"]],
        place: Int[Array, " 2"],
        variables: PyTree,
        images: Images,
        labels: Labels,
        whole: Float[Array, " n"],
    ) -> tuple[Map, Float[Array, "h w"]]:
        drops, covered = carry
        rows, columns = (
            (jnp.arange(size) >= start) & (jnp.arange(size) < start + self.window)
            for size, start in zip(covered.shape, place, strict=True)
        )
        hidden = rows[:, None] & columns[None]
        weight = hidden.astype(covered.dtype)
        masked = jnp.where(hidden[None, ..., None], jnp.asarray(self.fill, images.dtype), images)
        drop = whole - self.network.scores(variables, masked, labels)
        return drops + drop[:, None, None] * weight[None], covered + weight


def per_pixel(attribution: Images) -> Map:
    """Returns one number a pixel: the largest magnitude over the channels.

    >>> per_pixel(jnp.array([-3.0, 2.0]).reshape(1, 1, 1, 2)).tolist()
    [[[3.0]]]
    """
    return jnp.abs(attribution).max(-1)
