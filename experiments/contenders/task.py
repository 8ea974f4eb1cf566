"""What every contender is given, and what it gives back."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path

import numpy as np
from flax import linen as nn
from jaxtyping import Float, Int

from cnn_jax.analysis.operations import Operation, operations, window_and_stride
from cnn_jax.config import Config, Data, Optim, Synthetic, Train
from cnn_jax.cpus import usable_cpus
from cnn_jax.data.datasets import dataset_spec, load_dataset
from cnn_jax.data.spec import Spec, Split
from cnn_jax.errors import InputError
from cnn_jax.layers.arithmetic import Padding, per_dimension, window_padding
from cnn_jax.models.registry import build_model, variable_shapes
from experiments.contenders.files import write_folder

MODES = ("train", "inference", "streaming")
LEARNING_RATE, MOMENTUM = 1e-3, 0.9
_MOST_EXAMPLES, _MOST_BYTES = 50_000, 2**27  # of the images in float32
_BATCHES_ON_DISK = 8  # at least; the stream begins anew after them, without a pause

Run = Callable[[int], int]


@dataclasses.dataclass(frozen=True)
class Task:
    """A config as `benchmark_config` makes it or `streamed_config`, and a mode.

    Modes are "train" and "inference" on images in memory, "streaming" trains from image files.
    """

    config: Config
    mode: str
    contender: str

    @property
    def batch_size(self) -> int:
        """Examples of a step."""
        return self.config.data.batch_size

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self._spec.image_shape

    @property
    def model(self) -> nn.Module:
        """Our network."""
        classes = self._spec.num_classes
        return build_model(num_classes=classes, **dataclasses.asdict(self.config.model))

    @cached_property
    def _spec(self) -> Spec:
        return dataset_spec(self.config.data)

    @cached_property
    def operations(self) -> list[Operation]:
        """The network's graph.

        Raises:
          InputError: it has edges that no module call shows.
        """
        found = operations(self.model, self.image_shape)
        for each in found:
            if None in each.inputs:
                name = self.config.model.name
                raise InputError(f"only ours can be measured: {name} computes outside its modules")
        return found

    @cached_property
    def images(self) -> Float[np.ndarray, "n h w c"]:
        """The images that ours trains on, as the peers take them: float32 in [0, 1]."""
        return self._split.images.astype(np.float32) / 255

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Their classes, int32."""
        return self._split.labels

    @cached_property
    def _split(self) -> Split:
        return load_dataset(self.config.data).train

    def batches(self) -> "Batches":
        """Returns the endless stream of batches."""
        return Batches(len(self.labels), self.batch_size)


class Batches:
    """Whole batches of examples' numbers, in a new order every epoch."""

    def __init__(self, examples: int, batch_size: int):
        self._rng = np.random.default_rng(0)
        self._examples, self._batch_size = examples, batch_size
        self._order, self._at = np.empty(0, np.int64), 0

    def __iter__(self) -> Iterator[Int[np.ndarray, " b"]]:
        return self

    def __next__(self) -> Int[np.ndarray, " b"]:
        if self._at + self._batch_size > len(self._order):
            self._order, self._at = self._rng.permutation(self._examples), 0
        self._at += self._batch_size
        return self._order[self._at - self._batch_size : self._at]


@dataclasses.dataclass(frozen=True)
class Started:
    """A network with its weights.

    `run(steps)` takes that many steps, or the nearest number that the framework can, and returns
    how many once all are finished. `seconds()` says what of the last run's time counts, where that
    is not the whole. Steps are taken inside `reading()`, which for image files reads them ahead.
    """

    run: Run
    parameters: int  # trained ones
    seconds: Callable[[], float] | None = None
    flops: float | None = None  # of a step, where they don't follow from the network
    reading: Callable[[], AbstractContextManager] = nullcontext


@dataclasses.dataclass(frozen=True)
class Contender:
    """A framework with the data at hand; `start()` makes the weights and compiles nothing yet."""

    start: Callable[[], Started]
    device_kind: str
    threads: int
    peak_memory: Callable[[], int | None]  # of a device with memory of its own


# Steps after which as much is read ahead as will be, two batches for each CPU that decodes.
WARM_STEPS = 2 * usable_cpus()


def benchmark_config(
    config: Config, *, batch_size: int | None = None, dtype: str | None = None
) -> Config:
    """Returns the config of the same network for the step that all contenders take.

    Its images are made up, of the shape and number of classes of the config's dataset, and as many
    as fit into 128 MiB in float32 (one batch at least).

    Raises:
      InputError: the dataset or the network is unknown, its images are of many sizes, or not of
        the network's.
    """
    spec = dataset_spec(config.data)
    if None in spec.image_shape:
        raise InputError(
            f"images of {spec.name} have no common size; set --config.data.image_size=224"
        )
    model = build_model(num_classes=spec.num_classes, **dataclasses.asdict(config.model))
    variable_shapes(model, spec.image_shape)
    batch_size = batch_size or config.data.batch_size
    bytes_per_batch = 4 * batch_size * int(np.prod(spec.image_shape))
    batches = max(1, min(_MOST_BYTES // bytes_per_batch, _MOST_EXAMPLES // batch_size))
    made = Synthetic(spec.image_shape, spec.num_classes, batches * batch_size, test_examples=1)
    return Config(
        name=config.name,
        data=Data(
            name="synthetic",
            synthetic=made,
            workers=config.data.workers,
            batch_size=batch_size,
            eval_batch_size=batch_size,
            validation_fraction=0.0,
            normalization="unit",
        ),
        model=config.model,
        optim=Optim(name="sgd", learning_rate=LEARNING_RATE, momentum=MOMENTUM),
        train=Train(steps=10**9, dtype=dtype or config.train.dtype),  # more than there is time for
        devices=1,
    )


def streamed_config(config: Config, folder: Path) -> Config:
    """Returns what `benchmark_config` made, but to read JPEG files, which are written.

    They have the shape of photographs, 4:3, and 5/3 of the network's height, as most of ImageNet.

    Raises:
      InputError: the network's images can't be files that are scaled to one size.
    """
    made = config.data.synthetic
    height, width, channels = made.image_shape
    if height != width or channels not in (1, 3):
        raise InputError(
            f"images of {height}×{width}×{channels} can't be streamed: files are scaled to "
            "squares, gray or RGB"
        )
    tall = round(height * 5 / 3)
    write_folder(
        folder,
        count=max(2 * made.classes, _BATCHES_ON_DISK * config.data.batch_size),
        size=(tall, round(tall * 4 / 3)),
        extension="jpg",
        classes=made.classes,
    )
    fields = {"name": "image_folder", "dir": str(folder), "feed": "streaming"}
    fields |= {"image_size": height, "channels": channels, "synthetic": Synthetic()}
    data = dataclasses.replace(config.data, **fields)
    return dataclasses.replace(config, data=data)


def layer_name(operation: Operation) -> str:
    """Returns the name of a peer's layer, which may not hold a slash."""
    return operation.name.replace("/", "_")


def padding_pairs(
    operation: Operation, padding: Padding | None = None
) -> tuple[tuple[int, int], ...]:
    """Returns (low, high) of each spatial dimension of a convolution or pooling.

    They are of the padding given, else of the operation's own.
    """
    module, sizes = operation.module, operation.input_shape[:-1]
    window, stride = window_and_stride(module)
    dilation = per_dimension(getattr(module, "dilation", 1), len(sizes), "dilation")
    padding = module.padding if padding is None else padding
    return window_padding(sizes, window, stride=stride, padding=padding, dilation=dilation)


def no_layer(framework: str, operation: Operation) -> InputError:
    """Returns the error for an operation that a framework has no layer for."""
    module = operation.module
    what = getattr(module, "function", None) or type(module).__name__
    return InputError(f"{framework} has no layer like {operation.name} ({what})")
