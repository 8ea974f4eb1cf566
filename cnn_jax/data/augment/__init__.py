"""Random changes of training images: pure functions of a key and a batch, run on the device."""

from cnn_jax.data.augment.composition import (
    STRENGTHS,
    AugmentFn,
    check_augment,
    each_alone,
    make_augment_fn,
)

__all__ = ["STRENGTHS", "AugmentFn", "check_augment", "each_alone", "make_augment_fn"]
