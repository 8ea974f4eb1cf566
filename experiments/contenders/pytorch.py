"""PyTorch as its tutorials write it: eager, or through `torch.compile`.

On a GPU images are channels_last, as PyTorch's own tuning guide has it. The layers are put together
with `torch.fx`, which writes the straight-line code that one would write by hand. Image files are
decoded by Pillow in the worker processes of a DataLoader and go to the device as bytes.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, PyTree
from torch import nn
from torch.utils.data import DataLoader

from cnn_jax.analysis.operations import Operation, window_and_stride
from cnn_jax.cpus import usable_cpus
from cnn_jax.data.normalization import Normalization
from cnn_jax.errors import InputError
from cnn_jax.models import modules
from cnn_jax.models.residual import PadShortcut
from cnn_jax.weights.names import by_name
from experiments.contenders.files import train_files
from experiments.contenders.task import (
    LEARNING_RATE,
    MOMENTUM,
    Batches,
    Contender,
    Run,
    Started,
    Task,
    layer_name,
    no_layer,
    padding_pairs,
)
from experiments.contenders.torch_files import Files

_ACTIVATIONS = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
    "hard_swish": nn.Hardswish,
    "softplus": nn.Softplus,
}
# Our names of a layer's arrays, and PyTorch's.
_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def network(operations: list[Operation]) -> nn.Module:
    """Returns the network of a list of operations; it takes NCHW images and gives logits.

    Raises:
      InputError: PyTorch has no such layer.
    """
    graph, layers = torch.fx.Graph(), nn.Module()
    values = [graph.placeholder("images")]
    for each in operations:
        name = layer_name(each)
        layers.add_module(name, _layer(each))
        values.append(graph.call_module(name, tuple(values[i] for i in each.inputs)))
    graph.output(values[-1])
    return torch.fx.GraphModule(layers, graph)


def with_weights(operations: list[Operation], variables: PyTree) -> nn.Module:
    """Returns the network of a list of operations with the weights of ours, for inference."""
    model, arrays, flattened = network(operations), by_name(variables), None
    for each in operations:
        if isinstance(each.module, modules.Flatten):
            flattened = each.input_shape
        layer = getattr(model, layer_name(each))
        for ours, theirs in _NAMES.items():
            if f"{each.name}/{ours}" in arrays:
                array = arrays[f"{each.name}/{ours}"]
                array = _weight(array, flattened) if ours == "kernel" else array
                getattr(layer, theirs).data.copy_(torch.from_numpy(np.array(array)))
        if isinstance(each.module, modules.Dense):
            flattened = None
    return model.eval()


def _weight(kernel: Float[np.ndarray, "..."], flattened: tuple[int, int, int] | None) -> np.ndarray:
    """Returns a kernel as PyTorch lays it out; images of a shape are flattened channels first."""
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    if flattened:
        maps = kernel.reshape(*flattened, -1)
        kernel = maps.transpose(2, 0, 1, 3).reshape(kernel.shape)
    return kernel.T


def normalization_constants(constants: Normalization) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns mean and deviation with the channels first: (C, H, W) or (C, 1, 1).

    Raises:
      InputError: the normalisation is ZCA whitening.
    """
    if constants.whitening is not None:
        raise InputError("the PyTorch side has no ZCA whitening; take a run with mean_std")
    mean, std = (
        torch.from_numpy(each.transpose(2, 0, 1).astype(np.float32))
        for each in (constants.mean, constants.std)
    )
    return mean, std


class _Add(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class _PadShortcut(nn.Module):
    def __init__(self, stride: int, missing: int):
        super().__init__()
        self.stride, self.missing = stride, missing

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self.missing))


def _layer(operation: Operation) -> nn.Module:
    module, channels = operation.module, operation.input_shape[-1]
    match module:
        case modules.Conv() | modules.MaxPool() | modules.AvgPool():
            return _window_layer(operation)
        case modules.Dense():
            return nn.Linear(channels, module.features, bias=module.use_bias)
        case modules.BatchNorm():
            return _batch_norm(module, channels)
        case modules.Activation(function=name) if name in _ACTIVATIONS:
            return _ACTIVATIONS[name]()
        case modules.Dropout():
            return nn.Dropout(module.rate)
        case modules.Flatten():
            return nn.Flatten()
        case modules.GlobalAvgPool():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case modules.ResponseNorm(size=size):
            return nn.LocalResponseNorm(size, size * module.alpha, module.beta, module.k)
        case modules.ZeroPad(padding=int(width)):
            return nn.ZeroPad2d(width)
        case modules.Add():
            return _Add()
        case PadShortcut():
            return _PadShortcut(module.stride, module.features - channels)
    raise no_layer("PyTorch", operation)


def _batch_norm(module: modules.BatchNorm, channels: int) -> nn.Module:
    """Returns the layer; PyTorch's has scale and bias always, they may stay as they are."""
    layer = nn.BatchNorm2d(channels, eps=module.epsilon, momentum=1 - module.momentum)
    layer.weight.requires_grad_(module.use_scale)
    layer.bias.requires_grad_(module.use_bias)
    return layer


def _window_layer(operation: Operation) -> nn.Module:
    module, channels = operation.module, operation.input_shape[-1]
    window, stride = window_and_stride(module)
    padding = _padding(operation)
    if isinstance(module, modules.MaxPool):
        return nn.MaxPool2d(window, stride, padding)
    if isinstance(module, modules.AvgPool):
        return nn.AvgPool2d(window, stride, padding, count_include_pad=False)
    return nn.Conv2d(
        channels,
        module.features,
        window,
        stride,
        padding,
        module.dilation,
        module.groups,
        module.use_bias,
    )


def _padding(operation: Operation) -> tuple[int, ...]:
    pairs = padding_pairs(operation)
    if any(low != high for low, high in pairs):
        raise no_layer("PyTorch", operation)
    return tuple(low for low, _ in pairs)


def build(task: Task) -> Contender:
    """Returns the contender with its images on the device, or with the names of their files."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    layout = torch.channels_last if on_gpu else torch.contiguous_format
    torch.backends.cudnn.benchmark = True
    source = _streamed if task.mode == "streaming" else _resident
    batch, reading = source(task, device, layout)

    def start() -> Started:
        model = network(task.operations).to(device, memory_format=layout)
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        called = torch.compile(model) if task.contender == "torch-compile" else model
        half = task.config.train.dtype == "bfloat16"
        cast = partial(torch.autocast, device.type, torch.bfloat16, enabled=half)
        make_run = _inference if task.mode == "inference" else _training
        return Started(make_run(model, called, batch, cast), parameters, reading=reading)

    kind = torch.cuda.get_device_name() if on_gpu else "cpu"
    memory = torch.cuda.max_memory_allocated if on_gpu else lambda: None
    return Contender(start, kind, torch.get_num_threads(), memory)


def _resident(task: Task, device: torch.device, layout: torch.memory_format) -> tuple:
    """Returns what gives a batch of images in [0, 1] and labels, and what is open meanwhile."""
    images = torch.from_numpy(task.images).permute(0, 3, 1, 2)
    images = images.to(device).contiguous(memory_format=layout)
    labels = torch.from_numpy(task.labels).to(device, torch.int64)
    batches = task.batches()

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.from_numpy(next(batches)).to(device)
        return images[chosen], labels[chosen]

    return batch, nullcontext


def _streamed(task: Task, device: torch.device, layout: torch.memory_format) -> tuple:
    """Returns the same for images that are decoded ahead, whatever the device does."""
    paths, labels = train_files(Path(task.config.data.dir))
    loader = DataLoader(
        Files(paths, labels, task.image_shape),
        batch_sampler=Batches(len(paths), task.batch_size),
        num_workers=usable_cpus(),
        pin_memory=device.type == "cuda",
    )
    batches = iter(())

    @contextmanager
    def reading() -> Iterator[None]:
        nonlocal batches
        with warnings.catch_warnings():
            # Its workers are forked and never touch jax, which warns of forks all the same.
            warnings.filterwarnings("ignore", "os.fork.. was called")
            batches = iter(loader)
        try:
            yield
        finally:
            batches = iter(())  # which ends the workers

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = (each.to(device, non_blocking=True) for each in next(batches))
        images = images.permute(0, 3, 1, 2).float().div(255)
        return images.contiguous(memory_format=layout), labels

    return batch, reading


def _training(model: nn.Module, called: Callable, batch: Callable, cast: Callable) -> Run:
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def run(steps: int) -> int:
        model.train()
        for _ in range(steps):
            images, labels = batch()
            optimizer.zero_grad()
            with cast():
                loss = criterion(called(images), labels)
            loss.backward()
            optimizer.step()
        _finish(loss)
        return steps

    return run


def _inference(model: nn.Module, called: Callable, batch: Callable, cast: Callable) -> Run:
    def run(steps: int) -> int:
        model.eval()
        with torch.inference_mode(), cast():
            for _ in range(steps):
                logits = called(batch()[0])
        _finish(logits)
        return steps

    return run


def _finish(result: torch.Tensor) -> None:
    if result.is_cuda:
        torch.cuda.synchronize()
