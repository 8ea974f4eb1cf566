"""Random changes of training images: pure functions of a key and a batch, run on the device.

Images are floats in [0, 1], (N, H, W, C); each image of a batch draws for itself.

>>> import jax, jax.numpy as jnp
>>> from cnn_jax.data.augment import random_crop, random_flip
>>> first, second = jax.random.split(jax.random.key(0))
>>> random_crop(second, random_flip(first, jnp.ones((4, 32, 32, 3))), padding=4).shape
(4, 32, 32, 3)
"""

from cnn_jax.data.augment.color import (
    adjust_brightness,
    adjust_contrast,
    adjust_exposure,
    adjust_hue,
    adjust_lighting,
    adjust_saturation,
    random_brightness,
    random_contrast,
    random_exposure,
    random_hue,
    random_lighting,
    random_saturation,
)
from cnn_jax.data.augment.composition import (
    STRENGTHS,
    AugmentFn,
    check_augment,
    each_alone,
    make_augment_fn,
)
from cnn_jax.data.augment.erasing import random_cutout, random_erasing
from cnn_jax.data.augment.filters import adjust_sharpness, gaussian_blur, random_blur, random_noise
from cnn_jax.data.augment.framing import (
    alternating_flip,
    random_crop,
    random_flip,
    random_flip_vertical,
)
from cnn_jax.data.augment.geometry import (
    random_affine,
    random_resized_crop,
    random_rotation,
    random_shear,
    random_shift,
    random_zoom,
    rotate,
    shear,
    shift,
    zoom,
)
from cnn_jax.data.augment.mixing import random_cutmix, random_mix, random_mixup
from cnn_jax.data.augment.policies import rand_augment, trivial_augment
from cnn_jax.data.augment.tones import autocontrast, equalize, posterize, solarize

__all__ = [
    "STRENGTHS",
    "AugmentFn",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_exposure",
    "adjust_hue",
    "adjust_lighting",
    "adjust_saturation",
    "adjust_sharpness",
    "alternating_flip",
    "autocontrast",
    "check_augment",
    "each_alone",
    "equalize",
    "gaussian_blur",
    "make_augment_fn",
    "posterize",
    "rand_augment",
    "random_affine",
    "random_blur",
    "random_brightness",
    "random_contrast",
    "random_crop",
    "random_cutmix",
    "random_cutout",
    "random_erasing",
    "random_exposure",
    "random_flip",
    "random_flip_vertical",
    "random_hue",
    "random_lighting",
    "random_mix",
    "random_mixup",
    "random_noise",
    "random_resized_crop",
    "random_rotation",
    "random_saturation",
    "random_shear",
    "random_shift",
    "random_zoom",
    "rotate",
    "shear",
    "shift",
    "solarize",
    "trivial_augment",
    "zoom",
]
