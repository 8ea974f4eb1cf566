"""Keras as its tutorials write it: `fit` and `predict` on arrays; KERAS_BACKEND says on what.

There are no metrics but the loss. What a call does before its first epoch and after its last, such
as taking the arrays in, does not count: it would weigh more here than in a run on real data.
Image files come through `image_dataset_from_directory`, which is TensorFlow's tf.data.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from cnn_jax.analysis.operations import Operation, window_and_stride
from cnn_jax.cpus import usable_cpus
from cnn_jax.models import modules
from cnn_jax.models.residual import PadShortcut
from experiments.contenders import jax_device
from experiments.contenders.task import (
    LEARNING_RATE,
    MOMENTUM,
    WARM_STEPS,
    Contender,
    Started,
    Task,
    layer_name,
    no_layer,
    padding_pairs,
)

_ACTIVATIONS = {
    name: name
    for name in (
        "relu", "relu6", "elu", "selu", "gelu", "silu", "mish", "tanh", "sigmoid", "hard_sigmoid",
        "softplus",
    )
} | {"identity": "linear", "hard_swish": "hard_silu"}  # fmt: skip


def network(operations: list[Operation], image_shape: tuple[int, int, int]) -> keras.Model:
    """Returns the network of a list of operations.

    Raises:
      InputError: Keras has no such layer.
    """
    values = [keras.Input(image_shape)]
    for each in operations:
        values.append(_layer(each)(*[values[i] for i in each.inputs]))
    # The last layer computes in half precision too, the loss does not.
    outputs = layers.Activation("linear", dtype="float32", name="float32")(values[-1])
    return keras.Model(values[0], outputs)


def _layer(operation: Operation) -> Callable:
    module, name = operation.module, layer_name(operation)
    match module:
        case modules.Conv() | modules.MaxPool() | modules.AvgPool():
            return _window_layer(operation)
        case modules.Dense():
            return layers.Dense(module.features, use_bias=module.use_bias, name=name)
        case modules.BatchNorm():
            return layers.BatchNormalization(
                momentum=module.momentum,
                epsilon=module.epsilon,
                scale=module.use_scale,
                center=module.use_bias,
                name=name,
            )
        case modules.Activation(function="leaky_relu"):
            return layers.LeakyReLU(0.01, name=name)
        case modules.Activation(function=function) if function in _ACTIVATIONS:
            return layers.Activation(_ACTIVATIONS[function], name=name)
        case modules.Dropout():
            return layers.Dropout(module.rate, name=name)
        case modules.Flatten():
            return layers.Flatten(name=name)
        case modules.GlobalAvgPool():
            return layers.GlobalAveragePooling2D(name=name)
        case modules.ZeroPad(padding=int(width)):
            return layers.ZeroPadding2D(width, name=name)
        case modules.Add():
            return lambda x, y: layers.Add(name=name)([x, y])
        case PadShortcut(features=features, stride=stride):
            missing = features - operation.input_shape[-1]
            pads = ((0, 0), (0, 0), (0, 0), (0, missing))
            return lambda x: keras.ops.pad(x[:, ::stride, ::stride], pads)
    raise no_layer("Keras", operation)


def _window_layer(operation: Operation) -> Callable:
    module = operation.module
    window, stride = window_and_stride(module)
    padding, zeros = _padding(operation)
    options = {"strides": stride, "padding": padding, "name": layer_name(operation)}
    if isinstance(module, modules.MaxPool):
        layer = layers.MaxPooling2D(window, **options)
    elif isinstance(module, modules.AvgPool):
        layer = layers.AveragePooling2D(window, **options)
    else:
        options |= {"dilation_rate": module.dilation, "groups": module.groups}
        layer = layers.Conv2D(module.features, window, use_bias=module.use_bias, **options)
    return (lambda x: layer(layers.ZeroPadding2D(zeros)(x))) if zeros else layer


def _padding(operation: Operation) -> tuple[str, tuple | None]:
    """Returns the layer's padding, and the zeros for a layer before it where that is not enough.

    Zeros before max pooling are what Keras's own ResNets have: nothing there is below zero.
    """
    pairs = padding_pairs(operation)
    if not any(map(any, pairs)):
        return "valid", None
    if pairs == padding_pairs(operation, "SAME"):
        return "same", None
    if isinstance(operation.module, modules.AvgPool):
        raise no_layer("Keras", operation)
    return "valid", pairs


def build(task: Task) -> Contender:
    """Returns the contender with its images in the host's memory, where Keras takes them from, or
    with the names of their files.
    """
    if task.config.train.dtype == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    kind, threads, memory = _device()
    if task.mode == "streaming":
        take_steps = partial(_fit_stream, _image_dataset(task))
    else:
        take_steps = partial(_run_on_arrays, task, task.images, task.labels)

    def start() -> Started:
        model = network(task.operations, task.image_shape)
        model.compile(
            optimizer=keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        clock = _Clock()
        parameters = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
        return Started(partial(take_steps, model, clock), parameters, lambda: clock.seconds)

    return Contender(start, kind, threads, memory)


def _run_on_arrays(
    task: Task,
    images: np.ndarray,
    labels: np.ndarray,
    model: keras.Model,
    clock: "_Clock",
    steps: int,
) -> int:
    size = task.batch_size
    options = {"batch_size": size, "verbose": 0, "callbacks": [clock]}
    clock.restart()
    batches = min(steps, len(labels) // size)
    epochs = max(1, round(steps / batches))
    x, y = images[: batches * size], labels[: batches * size]
    if task.mode == "train":
        model.fit(x, y, epochs=epochs, **options)
    else:
        for _ in range(epochs):
            model.predict(x, **options)
    return batches * epochs


def _fit_stream(dataset: Any, model: keras.Model, clock: "_Clock", steps: int) -> int:
    clock.restart(warm_steps=WARM_STEPS)
    model.fit(dataset, steps_per_epoch=WARM_STEPS + steps, verbose=0, callbacks=[clock])
    return steps


def _image_dataset(task: Task) -> Any:
    height, width, channels = task.image_shape
    dataset = keras.utils.image_dataset_from_directory(
        Path(task.config.data.dir) / "train",
        color_mode="grayscale" if channels == 1 else "rgb",
        batch_size=None,
        image_size=(height, width),
        seed=0,
        crop_to_aspect_ratio=True,
        verbose=False,
    )
    dataset = dataset.map(lambda image, label: (image / 255, label)).repeat()
    return dataset.batch(task.batch_size, drop_remainder=True).prefetch(2)


class _Clock(keras.callbacks.Callback):
    """Adds up the time between the first epoch's beginning and the last one's end.

    Of a single epoch the first steps may be left out.
    """

    seconds, _warm_steps = 0.0, 0

    def restart(self, *, warm_steps: int = 0) -> None:
        self.seconds, self._warm_steps = 0.0, warm_steps

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if batch + 1 == self._warm_steps:
            self._began = time.perf_counter()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.seconds += time.perf_counter() - self._began

    on_predict_begin, on_predict_end = on_train_begin, on_train_end


def _device() -> tuple[str, int, Callable[[], int | None]]:
    """Returns the kind of device, the threads, and what asks for the device's peak memory."""
    if keras.backend.backend() == "jax":
        return jax_device.device_kind(), usable_cpus(), jax_device.peak_memory
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "cpu", usable_cpus(), lambda: None
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "gpu")
    return name, usable_cpus(), lambda: tf.config.experimental.get_memory_info("GPU:0")["peak"]
