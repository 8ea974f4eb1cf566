"""Random changes of a batch of images, one by one: this project's and Keras's layers."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from cnn_jax.config import Augment

# Fields of `Augment`, and the Keras layer that does the same: its name and arguments.
OPERATIONS: dict[str, tuple[dict[str, Any], tuple[str, dict[str, Any]] | None]] = {
    "flip": ({"flip": True}, ("RandomFlip", {"mode": "horizontal"})),
    "crop": (
        {"crop_padding": 4},
        ("RandomTranslation", {"height_factor": 0.1, "width_factor": 0.1}),
    ),
    "rotation": ({"rotation": 18.0}, ("RandomRotation", {"factor": 0.05})),
    "zoom": ({"zoom": 0.2}, ("RandomZoom", {"height_factor": 0.2})),
    "shear": ({"shear": 0.2}, ("RandomShear", {"x_factor": 0.2, "y_factor": 0.2})),
    "resized_crop": ({"resized_crop": 0.25}, None),
    "brightness": (
        {"brightness": 0.2},
        ("RandomBrightness", {"factor": 0.2, "value_range": (0, 1)}),
    ),
    "contrast": ({"contrast": 0.2}, ("RandomContrast", {"factor": 0.2, "value_range": (0, 1)})),
    "saturation": (
        {"saturation": 0.3},
        ("RandomSaturation", {"factor": 0.3, "value_range": (0, 1)}),
    ),
    "hue": ({"hue": 0.1}, ("RandomHue", {"factor": 0.1, "value_range": (0, 1)})),
    "blur": (
        {"blur": 1.0},
        ("RandomGaussianBlur", {"kernel_size": 7, "sigma": 1.0, "value_range": (0, 1)}),
    ),
    "erasing": ({"erasing": 1.0}, ("RandomErasing", {"factor": 1.0, "value_range": (0, 1)})),
    "mixup": ({"mixup": 0.2}, ("MixUp", {"alpha": 0.2})),
    "cutmix": ({"cutmix": 1.0}, ("CutMix", {"factor": 1.0})),
    "rand_augment": ({"rand_augment": 2}, ("RandAugment", {"value_range": (0, 1), "num_ops": 2})),
}


def measure(
    contender: str, seconds: float, *, operation: str, size: int, batch_size: int
) -> dict[str, float]:
    """Returns images per second of one operation, compiled, on a batch in memory."""
    images = np.random.default_rng(0).random((batch_size, size, size, 3), np.float32)
    labels = np.arange(batch_size, dtype=np.int32) % 10
    run = {"cnn_jax": _ours, "keras": _keras}[contender](operation, images, labels)
    run()
    began, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds or not count:
        run()
        count += batch_size
    return {"rate": count / elapsed}


def _ours(operation: str, images: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    import jax

    from cnn_jax.data.augment import make_augment_fn

    augment_fn = jax.jit(make_augment_fn(Augment(**OPERATIONS[operation][0]), 10))
    batch = jax.device_put({"image": images, "label": labels})
    key = jax.random.key(0)
    return lambda: jax.block_until_ready(augment_fn(key, batch))


def _keras(operation: str, images: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    import keras
    import tensorflow as tf

    name, arguments = OPERATIONS[operation][1]
    layer = getattr(keras.layers, name)(**arguments)
    data = tf.constant(images)
    if name in ("MixUp", "CutMix"):
        data = {"images": data, "labels": tf.one_hot(labels, 10)}
    change = tf.function(lambda data: layer(data, training=True))
    return lambda: tf.nest.map_structure(lambda tensor: tensor.numpy(), change(data))
