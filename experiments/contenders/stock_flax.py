"""Flax's own layers with optax, as its tutorials write them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from cnn_jax.analysis.operations import Operation, window_and_stride
from cnn_jax.errors import InputError
from cnn_jax.models import modules
from cnn_jax.models.registry import count_parameters
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
)


class StockNetwork(nn.Module):
    """The network of a list of operations, from stock layers."""

    operations: tuple[Operation, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n classes"]:
        """Returns the logits."""
        values = [x]
        for each in self.operations:
            layer = _layer(each, train=train, dtype=self.dtype)
            values.append(layer(*[values[i] for i in each.inputs]))
        return values[-1]


def _layer(operation: Operation, *, train: bool, dtype: Any) -> Callable:
    module, name = operation.module, layer_name(operation)
    match module:
        case modules.Conv():
            return nn.Conv(
                module.features,
                module.window,
                module.stride,
                padding_pairs(operation),
                kernel_dilation=module.dilation,
                feature_group_count=module.groups,
                use_bias=module.use_bias,
                dtype=dtype,
                name=name,
            )
        case modules.Dense():
            return nn.Dense(module.features, use_bias=module.use_bias, dtype=dtype, name=name)
        case modules.BatchNorm():
            return nn.BatchNorm(
                use_running_average=not train,
                momentum=module.momentum,
                epsilon=module.epsilon,
                use_scale=module.use_scale,
                use_bias=module.use_bias,
                dtype=dtype,
                name=name,
            )
        case modules.Dropout():
            return nn.Dropout(module.rate, deterministic=not train)
        case modules.Activation():
            return _activation(operation)
    return _function(operation)


def _activation(operation: Operation) -> Callable:
    name = operation.module.function
    exceptions = {"gelu": partial(jax.nn.gelu, approximate=False), "identity": lambda x: x}
    function = exceptions.get(name) or getattr(jax.nn, name, None)
    if function is None:
        raise no_layer("Flax", operation)
    return function


def _function(operation: Operation) -> Callable:
    module = operation.module
    match module:
        case modules.MaxPool() | modules.AvgPool():
            window, stride = window_and_stride(module)
            options = {"strides": stride, "padding": padding_pairs(operation)}
            if isinstance(module, modules.MaxPool):
                return partial(nn.max_pool, window_shape=window, **options)
            return partial(nn.avg_pool, window_shape=window, count_include_pad=False, **options)
        case modules.GlobalAvgPool():
            return partial(jnp.mean, axis=(1, 2))
        case modules.Flatten():
            return lambda x: x.reshape(len(x), -1)
        case modules.Add():
            return jnp.add
        case modules.ZeroPad(padding=int(width)):
            return lambda x: jnp.pad(x, ((0, 0), (width, width), (width, width), (0, 0)))
        case PadShortcut(features=features, stride=stride):
            missing = features - operation.input_shape[-1]
            pads = ((0, 0), (0, 0), (0, 0), (0, missing))
            return lambda x: jnp.pad(x[:, ::stride, ::stride], pads)
    raise no_layer("Flax", operation)


def build(task: Task) -> Contender:
    """Returns the contender with its images on the device.

    Raises:
      InputError: it has no layer of an operation; or images are to come from files.
    """
    if task.mode == "streaming":
        raise InputError("Flax reads no image files; it is measured in the other modes")
    network = StockNetwork(tuple(task.operations), dtype=jnp.dtype(task.config.train.dtype))
    images, labels = jnp.asarray(task.images), jnp.asarray(task.labels)
    start = _start_training if task.mode == "train" else _start_inference
    start = partial(start, task, network, images, labels)
    return jax_device.contender(start)


def _start_training(
    task: Task, network: StockNetwork, images: jax.Array, labels: jax.Array
) -> Started:
    tx = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)
    variables = _initialize(network, images)
    params, stats = variables["params"], variables.get("batch_stats", {})
    state, parameters = (params, stats, tx.init(params)), count_parameters(params)
    batches, key = task.batches(), jax.random.key(1)

    @partial(jax.jit, donate_argnums=0)
    def step(state: tuple, images: jax.Array, labels: jax.Array, key: jax.Array) -> tuple:
        params, stats, opt_state = state

        def objective(params: Any) -> tuple[jax.Array, Any]:
            logits, updated = network.apply(
                {"params": params, "batch_stats": stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            logits = logits.astype(jnp.float32)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), updated.get("batch_stats", {})

        grads, stats = jax.grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), stats, opt_state

    def run(steps: int) -> int:
        nonlocal state, key
        for _ in range(steps):
            chosen = next(batches)
            key, dropout_key = jax.random.split(key)
            state = step(state, images[chosen], labels[chosen], dropout_key)
        jax.block_until_ready(state)
        return steps

    return Started(run, parameters)


def _start_inference(
    task: Task, network: StockNetwork, images: jax.Array, labels: jax.Array
) -> Started:
    del labels
    variables, batches = _initialize(network, images), task.batches()
    apply = jax.jit(partial(network.apply, train=False))

    def run(steps: int) -> int:
        for _ in range(steps):
            logits = apply(variables, images[next(batches)])
        jax.block_until_ready(logits)
        return steps

    return Started(run, count_parameters(variables["params"]))


def _initialize(network: StockNetwork, images: jax.Array) -> dict[str, Any]:
    return jax.jit(partial(network.init, train=False))(jax.random.key(0), images[:1])
