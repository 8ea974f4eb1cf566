"""Keras as its tutorials write it: `fit` and `predict` on arrays; KERAS_BACKEND says on what.

There are no metrics but the loss. What a call does before its first epoch and after its last, such
as taking the arrays in, does not count: it would weigh more here than in a run on real data.
"""

import time
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from cnn_jax.analysis.summary import Operation, window_and_stride
from cnn_jax.layers.arithmetic import per_dimension, same_padding
from cnn_jax.models import modules
from cnn_jax.models.residual import PadShortcut
from experiments.contenders import jax_device
from experiments.contenders.task import (
    LEARNING_RATE,
    MOMENTUM,
    Contender,
    Started,
    Task,
    layer_name,
    no_layer,
    padding_pairs,
    usable_cpus,
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
                momentum=module.momentum, epsilon=module.epsilon, name=name
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
    pairs, sizes = padding_pairs(operation), operation.input_shape[:-1]
    window, stride = window_and_stride(operation.module)
    dilation = per_dimension(getattr(operation.module, "dilation", 1), len(sizes), "dilation")
    if not any(map(any, pairs)):
        return "valid", None
    if pairs == tuple(map(same_padding, sizes, window, stride, dilation)):
        return "same", None
    if isinstance(operation.module, modules.AvgPool):
        raise no_layer("Keras", operation)
    return "valid", pairs


def build(task: Task) -> Contender:
    """Returns the contender with its images in the host's memory, where Keras takes them from."""
    if task.config.train.dtype == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    kind, threads, memory = _device()
    images, labels, size = task.images, task.labels, task.batch_size

    def start() -> Started:
        model = network(task.operations, task.image_shape)
        model.compile(
            optimizer=keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

        clock = _Clock()
        options = {"batch_size": size, "verbose": 0, "callbacks": [clock]}

        def run(steps: int) -> int:
            clock.seconds = 0.0
            batches = min(steps, len(labels) // size)
            epochs = max(1, round(steps / batches))
            x, y = images[: batches * size], labels[: batches * size]
            if task.mode == "train":
                model.fit(x, y, epochs=epochs, **options)
            else:
                for _ in range(epochs):
                    model.predict(x, **options)
            return batches * epochs

        parameters = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
        return Started(run, parameters, lambda: clock.seconds)

    return Contender(start, kind, threads, memory)


class _Clock(keras.callbacks.Callback):
    """Adds up the time between the first epoch's beginning and the last one's end."""

    seconds = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
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
