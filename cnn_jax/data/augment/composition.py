"""The changes that a config turns on, as one function of a key and a batch.

The order is fixed: flips, shifted crop, the geometric changes in one resampling pass,
TrivialAugment or RandAugment, exposure, brightness, contrast, saturation, hue, lighting, blur,
noise, cutout, random erasing, and last mixup or cutmix. Each example draws for itself, and each
change from a key of its own: what one draws doesn't depend on which others are on. All of it runs
inside the compiled training step.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnn_jax.config import Augment, is_on
from cnn_jax.data.augment.color import (
    random_brightness,
    random_contrast,
    random_exposure,
    random_hue,
    random_lighting,
    random_saturation,
)
from cnn_jax.data.augment.draws import Images, PRNGKey
from cnn_jax.data.augment.erasing import random_cutout, random_erasing
from cnn_jax.data.augment.filters import random_blur, random_noise
from cnn_jax.data.augment.framing import (
    alternating_flip,
    random_crop,
    random_flip,
    random_flip_vertical,
)
from cnn_jax.data.augment.geometry import random_affine
from cnn_jax.data.augment.mixing import random_cutmix, random_mix, random_mixup
from cnn_jax.data.augment.policies import rand_augment, trivial_augment

Batch = dict[str, jax.Array]
AugmentFn = Callable[[PRNGKey, Batch], Batch]

# The fields that may be traced, as in a population. 0 is no change, but for resized_crop, where
# it is 1.
STRENGTHS = tuple(f.name for f in dataclasses.fields(Augment) if f.type is float)


def make_augment_fn(augment: Augment, num_classes: int) -> AugmentFn:
    """Returns augment_fn(key, batch) -> batch with the changes that are turned on.

    A batch holds `image`, floats in [0, 1] (N, H, W, C), and `label`, (N,) classes; alternating
    flips also need `index` and `epoch`, both (N,). After mixup and cutmix `label` holds shares of
    the classes, (N, num_classes). Fields among `STRENGTHS` may be traced scalars; a change whose
    strength is traced is made, even if it is 0.

    >>> import jax, jax.numpy as jnp
    >>> from cnn_jax.config import Augment
    >>> from cnn_jax.data.augment import make_augment_fn
    >>> augment_fn = jax.jit(make_augment_fn(Augment(flip=True, mixup=0.2), 10))
    >>> batch = {"image": jnp.ones((4, 8, 8, 3)), "label": jnp.arange(4)}
    >>> augment_fn(jax.random.key(0), batch)["label"].shape
    (4, 10)
    """

    def augment_fn(key: PRNGKey, batch: Batch) -> Batch:
        keys = [jax.random.fold_in(key, number) for number in range(6)]
        images = _flip(keys[0], batch, augment)
        if augment.crop_padding:
            padding = augment.crop_padding
            images = random_crop(keys[1], images, padding=padding, border=augment.border)
        images = _resample(keys[2], images, augment)
        images = _adjust(keys[3], images, augment)
        images = _erase(keys[4], images, augment)
        return _mix(keys[5], {**batch, "image": images}, augment, num_classes)

    return augment_fn


def check_augment(augment: Augment, image_shape: tuple[int, int, int]) -> None:
    """Raises InputError for a change that images of this shape can't undergo; computes nothing."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    number = jax.ShapeDtypeStruct((1,), jnp.int32)
    batch = {"image": image, "label": number, "index": number, "epoch": number}
    jax.eval_shape(make_augment_fn(augment, 2), jax.eval_shape(lambda: jax.random.key(0)), batch)


def each_alone(augment: Augment) -> dict[str, Augment]:
    """Returns for each change that is turned on, by its field's name, the config of it alone.

    >>> from cnn_jax.data.augment import each_alone
    >>> list(each_alone(Augment(flip=True, cutout=8)))
    ['flip', 'cutout']
    """
    basis = Augment(border=augment.border, rand_magnitude=augment.rand_magnitude)
    return {
        name: dataclasses.replace(basis, **{name: value})
        for name, value in vars(augment).items()
        if value and name not in ("border", "rand_magnitude")
    }


def _flip(key: PRNGKey, batch: Batch, s: Augment) -> Images:
    images = batch["image"]
    horizontal_key, vertical_key = jax.random.split(key)
    if s.flip:
        images = random_flip(horizontal_key, images)
    if s.alternating_flip:
        images = alternating_flip(images, batch["index"], batch["epoch"])
    if s.flip_vertical:
        images = random_flip_vertical(vertical_key, images)
    return images


def _resample(key: PRNGKey, images: Images, s: Augment) -> Images:
    affine_key, policy_key = jax.random.split(key)
    if any(map(is_on, (s.resized_crop, s.shear, s.rotation, s.zoom, s.shift))):
        images = random_affine(
            affine_key,
            images,
            area=s.resized_crop if is_on(s.resized_crop) else 1.0,
            shear=s.shear,
            rotation=s.rotation,
            zoom=s.zoom,
            shift=s.shift,
            border=s.border,
        )
    if s.trivial_augment:
        images = trivial_augment(policy_key, images, border=s.border)
    if s.rand_augment:
        images = rand_augment(
            policy_key,
            images,
            operations=s.rand_augment,
            magnitude=s.rand_magnitude,
            border=s.border,
        )
    return images


def _adjust(key: PRNGKey, images: Images, s: Augment) -> Images:
    changes = (
        (random_exposure, s.exposure),
        (random_brightness, s.brightness),
        (random_contrast, s.contrast),
        (random_saturation, s.saturation),
        (random_hue, s.hue),
        (random_lighting, s.lighting),
        (random_blur, s.blur),
        (random_noise, s.noise),
    )
    keys = jax.random.split(key, len(changes))
    for change_key, (change, strength) in zip(keys, changes, strict=True):
        if is_on(strength):
            images = change(change_key, images, strength=strength)
    return images


def _erase(key: PRNGKey, images: Images, s: Augment) -> Images:
    cutout_key, erasing_key = jax.random.split(key)
    if s.cutout:
        images = random_cutout(cutout_key, images, size=s.cutout)
    if is_on(s.erasing):
        images = random_erasing(erasing_key, images, probability=s.erasing)
    return images


def _mix(key: PRNGKey, batch: Batch, s: Augment, num_classes: int) -> Batch:
    arrays, options = (batch["image"], batch["label"]), {"num_classes": num_classes}
    if is_on(s.mixup) and is_on(s.cutmix):
        mixed = random_mix(key, *arrays, mixup=s.mixup, cutmix=s.cutmix, **options)
    elif is_on(s.mixup):
        mixed = random_mixup(key, *arrays, strength=s.mixup, **options)
    elif is_on(s.cutmix):
        mixed = random_cutmix(key, *arrays, strength=s.cutmix, **options)
    else:
        return batch
    return {**batch, "image": mixed[0], "label": mixed[1]}
