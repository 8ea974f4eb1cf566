"""The pictures of a trained network that `experiments.visualize` draws, one function for each.

A function takes a `Subject` and returns pictures by the names of their files. What is computed is
in `cnn_jax.analysis`; here it is chosen and laid out.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from cnn_jax.analysis import attribution, heat_maps
from cnn_jax.analysis.activation_maximization import Recipe, channel_images, class_images
from cnn_jax.analysis.calibration import probabilities
from cnn_jax.analysis.deep_dream import OCTAVE_SCALE, deep_dream
from cnn_jax.analysis.features import activations, layer_shapes, match_layers
from cnn_jax.analysis.figures import contact_sheet, picture
from cnn_jax.analysis.predictions import evenly_spaced
from cnn_jax.analysis.receptive_field import (
    Box,
    box_of,
    measured_field,
    middle,
    theoretical_fields,
)
from cnn_jax.analysis.top_patches import cut, top_patches
from cnn_jax.data.normalization import normalize
from cnn_jax.errors import InputError
from cnn_jax.training.predictor import Predictor

Picture = UInt8[np.ndarray, "height width 3"]
Pictures = dict[str, Picture]

_CHANNELS, _FILTERS, _PATCHES, _DRAWS = 16, 12, 9, 4
_DREAMT, _OCTAVES = 4, 4  # images, and sizes that each goes through
_DREAM_SIDE = 128  # smaller images are enlarged to it before they are dreamt of
_DREAM_JITTER = 16
_CAM_SIDE = 4  # a map of fewer positions says too little of where
_BATCH = 256
_RECIPE = Recipe()


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A trained network, and what it is to be looked at with."""

    predictor: Predictor
    images: UInt8[np.ndarray, "n h w c"]
    names: Sequence[str]  # of the images
    searched: UInt8[np.ndarray, "m h w c"] | None = None  # where patches are looked for
    pattern: str | None = None  # of layers
    classes: Sequence[int] = ()  # by number; none: as the picture's function chooses
    recipe: Recipe = _RECIPE
    seed: int = 0

    @cached_property
    def prepare(self) -> Callable:
        """What turns pixels in [0, 1] into what the network takes."""
        return partial(normalize, normalization=self.predictor.normalization)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the layers' outputs."""
        return layer_shapes(self.predictor.model, self.predictor.spec.image_shape)

    @cached_property
    def pixels(self) -> Float[np.ndarray, "n h w c"]:
        """The images in [0, 1]."""
        return self.images.astype(np.float32) / 255

    @property
    def network(self) -> tuple:
        """The model and its variables."""
        return self.predictor.model, self.predictor.variables

    @property
    def key(self) -> jax.Array:
        """The random key for whatever needs one."""
        return jax.random.key(self.seed)

    def layers(self, among: Sequence[str], default: Sequence[str]) -> list[str]:
        """Returns the layers that were asked for, of those that will do, or the default ones.

        Raises:
          InputError: none that was asked for will do.
        """
        if self.pattern is None:
            return list(default)
        asked = match_layers(self.pattern, self.shapes)
        found = [name for name in asked if name in among]
        if not found:
            raise InputError(
                f"the layer {asked[0]} can't be drawn so; these can: {', '.join(among)}"
            )
        return found

    def with_maps(self, *, side: int = 1) -> list[str]:
        """Returns the layers whose outputs have rows and columns, at least so many."""
        shapes = self.shapes.items()
        return [name for name, shape in shapes if len(shape) == 3 and min(shape[:2]) >= side]

    def probabilities(
        self, pixels: Float[np.ndarray, "n h w c"] | jax.Array
    ) -> Float[np.ndarray, "n classes"]:
        """Returns what the network makes of images in [0, 1]."""
        logits = np.asarray(self._logits(self.predictor.variables, pixels))
        return probabilities(logits, sigmoids=self.predictor.sigmoids)

    @cached_property
    def _logits(self) -> Callable:
        model = self.predictor.model
        return jax.jit(lambda v, x: model.apply(v, self.prepare(x), train=False))


def draw_feature_maps(subject: Subject) -> Pictures:
    """Returns for each image what the first channels of every layer make of it."""
    names = subject.layers([*subject.shapes], [*subject.shapes])
    model, variables = subject.network
    capture = jax.jit(partial(activations, model, layers=names, prepare=subject.prepare))
    found = jax.device_get(capture(variables, subject.pixels))
    probabilities = subject.probabilities(subject.pixels)
    pictures = {}
    for i, name in enumerate(subject.names):
        rows = [(_verdict(subject, name, probabilities[i]), subject.images[i : i + 1])]
        rows += [_map_row(layer, subject.shapes[layer], found[layer][i]) for layer in names]
        columns = [f"{channel}" for channel in range(_CHANNELS)]
        pictures[f"feature_maps_{name}"] = contact_sheet(rows, columns=columns)
    return pictures


def _map_row(layer: str, shape: tuple[int, ...], output: np.ndarray) -> tuple[str, np.ndarray]:
    caption = f"{layer}\n{'×'.join(map(str, shape))}"
    if output.ndim == 1:
        return caption, heat_maps.colored(heat_maps.as_strip(output)[None])
    return caption, heat_maps.colored(np.moveaxis(output, -1, 0))[:_CHANNELS]


def draw_filters(subject: Subject) -> Pictures:
    """Returns the first kernels as images, and for some layers what excites their channels most."""
    kernels = _kernels(subject.predictor.variables["params"], list(subject.shapes))
    first = next(iter(kernels))
    chosen = subject.layers(list(kernels), evenly_spaced(list(kernels), most=4))
    pictures = {}
    if first in chosen:
        tiles = heat_maps.kernels_as_images(np.asarray(kernels[first]))
        starts = range(0, len(tiles), _CHANNELS)
        rows = [(f"{first}\n{at}–" if at else first, tiles[at : at + _CHANNELS]) for at in starts]
        pictures[f"kernels_{_as_file(first)}"] = contact_sheet(rows)
    for layer in chosen:
        pictures[f"filters_{_as_file(layer)}"] = _filter_sheet(subject, layer)
    return pictures


def _kernels(params: dict, layers: list[str]) -> dict[str, jax.Array]:
    """Returns the kernels of the convolutions by layer, in the order of computation."""
    found = {}
    for layer in layers:
        weights = params
        for part in layer.split("/"):
            weights = weights.get(part, {}) if hasattr(weights, "get") else {}
        if getattr(weights.get("kernel"), "ndim", 0) == 4:
            found[layer] = weights["kernel"]
    if not found:
        raise InputError("the network has no convolution whose filters could be drawn")
    return found


def _filter_sheet(subject: Subject, layer: str) -> Picture:
    model, variables = subject.network
    count = min(_FILTERS, subject.shapes[layer][-1])
    shape = subject.predictor.spec.image_shape
    made = channel_images(
        subject.key,
        model,
        variables,
        jnp.arange(count),
        layer=layer,
        image_shape=shape,
        recipe=subject.recipe,
        prepare=subject.prepare,
    )
    patches = [[] for _ in range(count)]
    if subject.searched is not None:
        patches = list(_patches(subject, layer, count))
    rows = [
        (f"{layer}\nchannel {channel}", [image, *patch])
        for channel, (image, patch) in enumerate(zip(np.asarray(made), patches, strict=True))
    ]
    columns = ["maximised", *(f"patch {n}" for n in range(1, len(patches[0]) + 1))]
    return contact_sheet(rows, columns=columns, tile=_tile(shape, 84))


def _patches(subject: Subject, layer: str, count: int) -> Iterator[list[np.ndarray]]:
    """Yields for each channel the patches that excite it most, as the receptive field has them."""
    model, variables = subject.network
    pixels, shape = subject.searched, subject.predictor.spec.image_shape
    batches = (
        jnp.asarray(pixels[at : at + _BATCH], jnp.float32) / 255
        for at in range(0, len(pixels), _BATCH)
    )
    best = jax.device_get(
        top_patches(model, variables, batches, layer=layer, count=_PATCHES, prepare=subject.prepare)
    )
    field = theoretical_fields(model, shape)[layer]
    for channel in range(count):
        places = zip(best.images[channel], best.positions[channel].tolist(), strict=True)
        boxes = ((image, box_of(field, tuple(position), shape)) for image, position in places)
        yield [cut(pixels[image], _at_most(box, shape), fill=211) for image, box in boxes]


def _at_most(box: Box, shape: tuple[int, int, int]) -> Box:
    """A field larger than the image is shown as the image."""
    whole = Box(0, 0, *shape[:2])
    larger = box.bottom - box.top > shape[0] or box.right - box.left > shape[1]
    return whole if larger else box


def draw_classes(subject: Subject) -> Pictures:
    """Returns images that make each class's logit large, several a class from different noise."""
    spec = subject.predictor.spec
    classes = list(subject.classes) or list(range(min(spec.num_classes, 10)))
    model, variables = subject.network
    images = class_images(
        subject.key,
        model,
        variables,
        jnp.repeat(jnp.array(classes), _DRAWS),
        image_shape=spec.image_shape,
        recipe=subject.recipe,
        prepare=subject.prepare,
    )
    shares = subject.probabilities(images).reshape(len(classes), _DRAWS, -1)
    drawn = np.asarray(images).reshape(len(classes), _DRAWS, *spec.image_shape)
    rows = [
        (f"{spec.class_names[number]}\n{_percent(shares[i, :, number].mean())}", drawn[i])
        for i, number in enumerate(classes)
    ]
    return {"classes": contact_sheet(rows, tile=_tile(spec.image_shape, 96))}


def draw_attribution(subject: Subject) -> Pictures:
    """Returns a sheet of the images with each method's map over them."""
    model, variables = subject.network
    probabilities = subject.probabilities(subject.pixels)
    labels = probabilities.argmax(-1)
    if subject.classes:
        labels = np.resize(subject.classes, len(labels))
    side = min(_CAM_SIDE, max(min(s[:2]) for s in subject.shapes.values() if len(s) == 3))
    layer = subject.layers(subject.with_maps(), subject.with_maps(side=side))[-1]
    arguments = (variables, jnp.asarray(subject.pixels), jnp.asarray(labels))
    window = max(2, min(subject.pixels.shape[1:3]) // 5)
    options = {"prepare": subject.prepare}
    cam = jax.jit(partial(attribution.grad_cam, model, layer=layer, **options))
    gradient = jax.jit(partial(attribution.saliency, model, **options))
    methods = {
        "saliency": attribution.per_pixel(gradient(*arguments)),
        "SmoothGrad": attribution.per_pixel(
            attribution.smooth_grad(subject.key, model, *arguments, **options)
        ),
        "integrated gradients": attribution.per_pixel(
            attribution.integrated_gradients(model, *arguments, **options)
        ),
        f"Grad-CAM {layer}": cam(*arguments),
        f"occlusion {window}×{window}": attribution.occlusion(
            model, *arguments, window=window, stride=max(1, window // 3), **options
        ),
    }
    overlays = [heat_maps.overlay(subject.pixels, np.asarray(m)) for m in methods.values()]
    rows = []
    for i, name in enumerate(subject.names):
        caption = _verdict(subject, name, probabilities[i], explained=int(labels[i]))
        rows.append((caption, [subject.images[i], *(each[i] for each in overlays)]))
    tile = _tile(subject.images.shape[1:], 160)
    return {"attribution": contact_sheet(rows, columns=["image", *methods], tile=tile)}


def draw_deep_dream(subject: Subject) -> Pictures:
    """Returns the images as some layers would have them."""
    model, variables = subject.network
    maps = subject.with_maps(side=2)
    layers = subject.layers(maps, evenly_spaced(maps, most=4)[1:] or maps)
    pixels = jnp.asarray(subject.pixels[:_DREAMT])
    if subject.predictor.normalization.mean.shape[:2] == (1, 1):  # else it has a size of its own
        pixels = _enlarged(pixels, _DREAM_SIDE)
    smallest = subject.predictor.spec.image_shape[0]
    octaves = min(_OCTAVES, 1 + int(np.log(pixels.shape[1] / smallest) / np.log(OCTAVE_SCALE)))
    dreams = [
        deep_dream(
            subject.key,
            model,
            variables,
            pixels,
            layer=layer,
            octaves=octaves,
            jitter=min(_DREAM_JITTER, pixels.shape[1] // 8),
            prepare=subject.prepare,
        )
        for layer in layers
    ]
    columns = ["image", *layers]
    pictures = [np.asarray(each) for each in (pixels, *dreams)]
    names = subject.names[:_DREAMT]
    rows = [(name, [each[i] for each in pictures]) for i, name in enumerate(names)]
    tile = max(pixels.shape[1], _tile(pixels.shape[1:], _DREAM_SIDE))
    return {"deep_dream": contact_sheet(rows, columns=columns, tile=tile)}


def _enlarged(pixels: jax.Array, side: int) -> jax.Array:
    scale = max(1, side / min(pixels.shape[1:3]))
    height, width = (round(n * scale) for n in pixels.shape[1:3])
    shape = (len(pixels), height, width, pixels.shape[-1])
    return jnp.clip(jax.image.resize(pixels, shape, "cubic"), 0, 1)


def draw_receptive_field(subject: Subject) -> Pictures:
    """Returns for some layers what the unit in the middle can see, and what it does see."""
    model, variables = subject.network
    shape = subject.predictor.spec.image_shape
    fields = theoretical_fields(model, shape)
    shown = subject.layers([*fields], evenly_spaced(_growing(fields, max(shape[:2])), most=8))
    image = np.asarray(picture(subject.images[0]))
    rows = []
    for layer in shown:
        position = middle(subject.shapes[layer]) if fields[layer] else (0, 0)
        box = box_of(fields[layer], position, shape)
        measure = jax.jit(
            partial(measured_field, model, layer=layer, position=position, prepare=subject.prepare)
        )
        field = np.asarray(measure(variables, jnp.asarray(subject.pixels)))
        tiles = (image, heat_maps.colored(field[None])[0])
        size = f"{box.bottom - box.top}×{box.right - box.left}"
        seen = f"sees {size}" if fields[layer] else "sees all"
        rows.append((f"{layer}\n{seen}", [heat_maps.boxed(t, box, side=192) for t in tiles]))
    columns = ["can see", "does see"]
    return {"receptive_field": contact_sheet(rows, columns=columns, tile=192)}


def _growing(fields: dict, side: int) -> list[str]:
    """Returns the layers that see more than all before them, until one sees the whole image."""
    widest, found = 1, []
    for layer, field in fields.items():
        if field and widest < field[0].size and widest < side:
            widest = field[0].size
            found.append(layer)
    return found or list(fields)


def _verdict(
    subject: Subject, name: str, shares: np.ndarray, *, explained: int | None = None
) -> str:
    """Returns an image's name, and below it which class the network takes it for."""
    names, first = subject.predictor.spec.class_names, int(shares.argmax())
    lines = [name, f"taken for {names[first]} ({_percent(shares[first])})"]
    if explained not in (None, first):
        lines.append(f"shown: {names[explained]} ({_percent(shares[explained])})")
    return "\n".join(lines)


def _tile(image_shape: tuple[int, ...], around: int) -> int:
    """Returns a side for tiles that small images fill when they are enlarged by a whole number."""
    largest = max(image_shape[:2])
    return largest * round(around / largest) if largest <= around else around


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "below 1%"


def _as_file(layer: str) -> str:
    return layer.replace("/", "_").replace(":", "_")


NEEDS_IMAGES: dict[str, Callable[[Subject], Pictures]] = {
    "feature_maps": draw_feature_maps,
    "attribution": draw_attribution,
    "receptive_field": draw_receptive_field,
    "deep_dream": draw_deep_dream,
}
NEEDS_NONE: dict[str, Callable[[Subject], Pictures]] = {
    "filters": draw_filters,
    "classes": draw_classes,
}
