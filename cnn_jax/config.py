"""What a run is: nested dataclasses with typed fields; `config_checks` says which values are right.

Every field can be set on the command line (`--config.optim.learning_rate=0.1`). A `None` in
`Model` means the network's own default.
"""

import copy
import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from cnn_jax.errors import InputError, unknown

OPTIMIZERS = ("sgd", "rmsprop", "adam", "adamw", "nadam", "lamb", "lars", "muon", "muon_sgd")
SCHEDULES = ("constant", "linear", "cosine", "one_cycle", "step", "plateau")
NORMALIZATIONS = ("unit", "mean", "mean_std", "per_pixel", "zca", "imagenet")
BORDERS = ("zero", "edge", "reflect")
BAD_EXAMPLES = ("raise", "skip")
MONITORS = ("accuracy", "loss")
FEEDS = ("auto", "resident", "streaming")
LOSSES = ("cross_entropy", "binary")
DTYPES = ("float32", "bfloat16")
PARALLEL = ("jit", "pmap")
BATCH_STATISTICS = ("global", "ghost")
ON_SAVE_ERROR = ("stop", "continue")
COMBINATIONS = ("product", "zip")
STRATEGIES = ("auto", "vmap", "map", "each")
PATH_SOURCES = ("image_folder", "npz")  # data.dir is the data itself


@dataclass
class Augment:
    """Random changes of the training images; everything is off unless set.

    What each strength means is said in full by the function of its name, as `random_rotation`, in
    `cnn_jax.data.augment`.
    """

    border: str = "zero"  # what a moved image leaves behind: zero, edge or reflect
    flip: bool = False  # mirror left and right, half of the time
    alternating_flip: bool = False  # mirror each example in every other epoch, instead of flip
    flip_vertical: bool = False  # upside down, half of the time
    crop_padding: int = 0  # shifted crop: how far an image moves at most, in pixels
    resized_crop: float = 0.0  # smallest share of the area that is enlarged; ImageNet: 0.08
    shear: float = 0.0  # pixels per pixel, both axes
    rotation: float = 0.0  # degrees
    zoom: float = 0.0  # by a factor from 1 ± zoom
    shift: float = 0.0  # share of the width and of the height
    trivial_augment: bool = False
    rand_augment: int = 0  # RandAugment's number of operations, N
    rand_magnitude: float = 9.0  # RandAugment's magnitude, M, from 0 to 10
    exposure: float = 0.0  # multiplied by 1 ± exposure
    brightness: float = 0.0  # ± brightness added, where white is 1
    contrast: float = 0.0  # by a factor from 1 ± contrast
    saturation: float = 0.0  # by a factor from 1 ± saturation
    hue: float = 0.0  # share of the colour circle, 0.5 at most
    lighting: float = 0.0  # standard deviation along ImageNet's principal colours; AlexNet: 0.1
    blur: float = 0.0  # Gaussian, of a sigma from 0 to this, in pixels
    noise: float = 0.0  # Gaussian, standard deviation, where white is 1
    cutout: int = 0  # side of the square that is painted over, in pixels
    erasing: float = 0.0  # random erasing: its probability
    mixup: float = 0.0  # alpha: shares from Beta(alpha, alpha); with cutmix too, one of the two
    cutmix: float = 0.0  # alpha


@dataclass
class Synthetic:
    """Made-up images, for data.name=synthetic."""

    image_shape: tuple[int, ...] = (32, 32, 3)  # height, width, channels
    classes: int = 10
    train_examples: int = 2048
    test_examples: int = 512


@dataclass
class Data:
    """Which examples, in batches of which size."""

    name: str = "digits"  # TFDS ("cifar10", "cifar10:3.0.2"), image_folder, npz or synthetic
    dir: str = ""  # the folder or the npz file; TFDS: TFDS_DATA_DIR or ~/tensorflow_datasets
    train_split: str = ""  # TFDS expressions such as "train[:90%]"; empty: the split of that name
    validation_split: str = ""  # empty: validation_fraction of train
    test_split: str = ""
    test_fraction: float = 0.2  # of an image folder or npz file that has no test part
    image_size: int = 0  # shorter side scaled to it, then cropped square; 0: as the images are
    center_crop: float = 1.0  # share of the shorter side that this square has; ImageNet: 0.875
    crop_files: bool = False  # augment.resized_crop cuts from the whole file as it is decoded
    channels: int = 3  # of an image folder: 3 (RGB) or 1 (gray)
    class_names: tuple[str, ...] = ()  # that an image folder must have; empty: whatever it has
    on_bad_example: str = "raise"  # or "skip": leave bad image files out, and list them
    synthetic: Synthetic = field(default_factory=Synthetic)
    feed: str = "auto"  # resident: on the device; streaming: read as needed; auto: by its size
    workers: int = 0  # processes that decode what is streamed; 0: threads of this one
    batch_size: int = 128
    eval_batch_size: int = 512
    validation_fraction: float = 0.1  # of the training split, the same examples for every seed
    test_mirror: bool = False  # tests average the logits of each image and its mirror image
    test_shift: int = 0  # pixels: and those of the image moved by so much along a diagonal
    normalization: str = "mean_std"  # or another of NORMALIZATIONS; pixels are in [0, 1] first
    augment: Augment = field(default_factory=Augment)

    @property
    def test_views(self) -> bool:
        """Whether a test averages over views of each image."""
        return self.test_mirror or self.test_shift > 0

    @property
    def host_crop(self) -> float:
        """The smallest share of a file that a random crop takes as it is decoded; 0: no crops."""
        return self.augment.resized_crop if self.crop_files else 0.0

    @property
    def device_augment(self) -> Augment:
        """The changes that are made on the device: all but the crops of files."""
        if not self.crop_files:
            return self.augment
        return dataclasses.replace(self.augment, resized_crop=0.0)


@dataclass
class Model:
    """Which network; fields left at None take the network's own default."""

    name: str = "lenet"
    activation: str | None = None
    pooling: str | None = None
    batch_norm: bool | None = None
    use_bias: bool | None = None  # of VGG's convolutions
    width: float | None = None  # times the channels of every layer; WideResNet's k
    depth: int | None = None  # layers of the CIFAR ResNets: 6n + 2, of WideResNet 6n + 4
    dropout: float | None = None
    drop_path: float | None = None  # ResNets: stochastic depth, the rate of the last block
    kernel_init: str | None = None


@dataclass
class Optim:
    """Optimizer and learning-rate schedule; durations are fractions of the whole run."""

    name: str = "sgd"
    learning_rate: float = 0.1
    rates: str = ""  # "logits=0.1; bias$=2": the rate's multiples, by what finds the path
    momentum: float | None = None  # None: sgd and lars 0.9, muon 0.95, rmsprop none, muon_sgd 0.6
    # for the convolutions and 0.85 for the rest
    nesterov: bool = False
    decay_rate: float = 0.9  # rmsprop: rho
    beta1: float = 0.9  # the adam family
    beta2: float = 0.999
    epsilon: float | None = None  # None: the adam family 1e-8, lamb 1e-6, rmsprop 1e-7
    weight_decay: float = 0.0  # not on biases and norms; decoupled in adamw, lamb and muon, and
    # in muon_sgd not on convolutions
    schedule: str = "constant"
    warmup: float = 0.0  # linear from zero over this fraction of the run; not of one_cycle
    milestones: tuple[float, ...] = ()  # schedule "step": where the rate drops
    decay_factor: float = 0.1  # schedules "step" and "plateau": by what it is multiplied
    plateau_patience: int = 10  # schedule "plateau": epochs whose mean training loss isn't lower
    clip_norm: float = 0.0  # global gradient norm; 0: no clipping
    hold_norms: bool = False  # each step starts from convolutions of norm √C_out; with batch norm
    freeze: str = ""  # regular expression; parameters whose path it finds are not trained


@dataclass
class Train:
    """How long, how precisely, and how often to look and to save."""

    epochs: float | None = None  # exactly one of epochs and steps is set
    steps: int | None = None
    init_from: str = ""  # a run directory: start from its best weights; the head may be another
    loss: str = "cross_entropy"  # or binary: one sigmoid for two classes, else one for each
    class_weights: str = ""  # "0.5,2": one for each class; or balanced, by the training split
    label_smoothing: float = 0.0
    dtype: str = "float32"  # of the computation; parameters and statistics stay float32
    accumulate: int = 1  # a step adds up the gradients of this many parts of its batch
    batch_statistics: str = "global"  # of batch norm; or "ghost": each device's share by itself
    ema_decay: float = 0.0  # evaluate a moving average of the weights; 0: the weights
    steps_per_dispatch: int = 0  # taken by one call of the program; 0: one on a CPU, else several
    remat: bool = False  # compute each block again in the backward pass, for less memory
    deterministic: bool = False  # the same bits from every run on a GPU too, where that is slower
    skip_nonfinite: int = 0  # steps left out, at most, for gradients that are not finite
    monitor: str = "accuracy"  # or loss: of the validation split, what makes the best checkpoint
    patience: int = 0  # evaluations without improvement before a run ends early; 0: never; if
    # set, the best weights are those tested
    min_change: float = 0.0  # by how much `monitor` must get better to be an improvement
    max_seconds: float = 0.0  # stop then, as on SIGTERM; 0: no limit
    stall_seconds: float = 0.0  # end, with exit code 1, if no step is taken for so long, compiling
    # and evaluations included: another process or a device is stuck; 0: wait for ever
    on_save_error: str = "stop"  # or "continue", when a checkpoint can't be written
    log_every: int = 50  # steps
    eval_every: int = 0  # steps; 0: once an epoch
    checkpoint_every: int = 0  # steps; 0: once an epoch
    pictures: bool = True  # images and histograms in TensorBoard, figures and report at the end


@dataclass
class Population:
    """Many runs trained together: each combination of values, with each seed."""

    seeds: int = 0  # how many, from the run's seed on; 0, and no values: a single run
    values: str = ""  # of fields that differ: "optim.learning_rate=0.01,0.03; model.dropout=0,0.5"
    combine: str = "product"  # every value with every other; or "zip": the first with the first ...
    halving: tuple[float, ...] = ()  # fractions of the run after which the weaker half ends
    strategy: str = "auto"  # vmap or map in one program; each: a program for one, side by side


@dataclass
class Config:
    """One run, complete; or a population of runs."""

    name: str = ""
    study: str = ""  # the command whose own loss or data make the run; train does not go on with it
    seed: int = 0
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    population: Population = field(default_factory=Population)
    parallel: str = "jit"  # or pmap, with random numbers of its own on each device
    devices: int = 0  # how many devices to use; 0: all there are


def placement_fields(config: Config) -> set[str]:
    """Returns the fields that move a run's work and not its result: a resumed run may change them.

    Where TFDS data lies is one of them; the path of an image folder or array file is the data.
    """
    fields = {"devices", "parallel", "train.max_seconds", "train.stall_seconds"}
    fields |= {"train.on_save_error", "train.pictures", "train.steps_per_dispatch"}
    fields |= {"data.feed", "data.workers"}
    return fields if config.data.name in PATH_SOURCES else fields | {"data.dir"}


def is_population(config: Config) -> bool:
    """Tells whether the config asks for many runs."""
    return bool(config.population.seeds or config.population.values)


def is_on(value: Any) -> bool:
    """Tells whether a field is set: to a number other than zero, or traced, whatever it holds.

    >>> is_on(0.0), is_on(None), is_on(0.9)
    (False, False, True)
    """
    return bool(value) if value is None or isinstance(value, int | float) else True


def with_fields(config: Config, values: Mapping[str, Any]) -> Config:
    """Returns a copy in which the fields at the given paths have other values, traced ones too.

    >>> with_fields(Config(), {"optim.learning_rate": 0.3}).optim.learning_rate
    0.3
    """
    config = copy.deepcopy(config)
    for path, value in values.items():
        *groups, name = path.split(".")
        setattr(functools.reduce(getattr, groups, config), name, value)
    return config


def optional_fields(kind: type = Config, prefix: str = "") -> set[str]:
    """Returns the paths of the fields that may be None.

    >>> "model.dropout" in optional_fields(), "optim.learning_rate" in optional_fields()
    (True, False)
    """
    found = set()
    for each in dataclasses.fields(kind):
        if dataclasses.is_dataclass(each.type):
            found |= optional_fields(each.type, f"{prefix}{each.name}.")
        elif type(None) in typing.get_args(each.type):
            found.add(prefix + each.name)
    return found


def total_steps(config: Config, examples: int) -> int:
    """Returns how many steps a run over `examples` training examples takes, at least one.

    Batches run on from one epoch into the next, so that an epoch need not be a whole number of
    steps; the run as a whole is rounded up.
    """
    if config.train.steps is not None:
        return config.train.steps
    epochs = Fraction(str(config.train.epochs))  # 1.1 epochs of 10 examples are 11, not a bit more
    return max(1, math.ceil(epochs * examples / config.data.batch_size))


def steps_per_epoch(config: Config, examples: int) -> int:
    """Returns the number of steps nearest to one pass over `examples` examples, at least one."""
    return max(1, round(examples / config.data.batch_size))


def to_json(config: Config) -> str:
    """Returns the whole config as a JSON text that `from_json` reads back."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> Config:
    """Returns the config that `to_json` wrote.

    Raises:
      InputError: the text is no JSON, or has a field or a type that a config doesn't have.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"the config is not JSON: {error}") from error
    return _build(Config, values, "")


def _build(cls: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{prefix.rstrip('.') or 'the config'} should be an object of fields")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    arguments = {}
    for name, value in values.items():
        if name not in fields:
            raise unknown("config field", prefix + name, [prefix + known for known in fields])
        kind = fields[name].type
        if dataclasses.is_dataclass(kind):
            arguments[name] = _build(kind, value, f"{prefix}{name}.")
        else:
            arguments[name] = _typed(prefix + name, kind, value)
    return cls(**arguments)


def _typed(name: str, kind: Any, value: Any) -> Any:
    """Returns a JSON value as the field's type: a list as a tuple, a whole number as a float."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for each in kinds:
        if typing.get_origin(each) is tuple and isinstance(value, list):
            member = typing.get_args(each)[0]
            return tuple(_typed(f"{name}[{i}]", member, v) for i, v in enumerate(value))
    if type(value) is int and float in kinds and int not in kinds:
        value = float(value)
    if type(value) not in kinds:
        wanted = getattr(kind, "__name__", str(kind))
        raise InputError(f"{name} is {value!r}; it must be of type {wanted}")
    return value


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Returns {field path: (old value, new value)} for the fields in which two configs differ.

    >>> differences(Config(seed=1), Config(seed=2))
    {'seed': (1, 2)}
    """
    flat_old, flat_new = flatten(old), flatten(new)
    return {
        name: (flat_old[name], value) for name, value in flat_new.items() if flat_old[name] != value
    }


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns {field path: value} of a config, in the order of its fields."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{f.name}.")
        else:
            flat[prefix + f.name] = value
    return flat
