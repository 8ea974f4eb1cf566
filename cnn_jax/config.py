"""What a run is: nested dataclasses with typed fields, checked before any work starts.

Every field can be set on the command line (`--config.optim.learning_rate=0.1`). A `None` in
`Model` means the network's own default.
"""

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from cnn_jax.errors import InputError, unknown

OPTIMIZERS = ("sgd", "rmsprop", "adam", "adamw", "nadam", "lamb", "lars", "muon")
SCHEDULES = ("constant", "linear", "cosine", "one_cycle", "step", "plateau")
NORMALIZATIONS = ("unit", "mean", "mean_std", "per_pixel", "zca")
BORDERS = ("zero", "edge", "reflect")
BAD_EXAMPLES = ("raise", "skip")
DTYPES = ("float32", "bfloat16")
PARALLEL = ("jit",)
ON_SAVE_ERROR = ("stop", "continue")
PATH_SOURCES = ("image_folder", "npz")  # data.dir is the data itself


@dataclass
class Augment:
    """Random changes of the training images; everything is off unless set.

    What each strength means is said in full by the function of its name in `cnn_jax.data`.
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
    channels: int = 3  # of an image folder: 3 (RGB) or 1 (gray)
    class_names: tuple[str, ...] = ()  # that an image folder must have; empty: whatever it has
    on_bad_example: str = "raise"  # or "skip": leave bad image files out, and list them
    synthetic: Synthetic = field(default_factory=Synthetic)
    batch_size: int = 128
    eval_batch_size: int = 512
    validation_fraction: float = 0.1  # of the training split, the same examples for every seed
    normalization: str = "mean_std"  # or unit, mean, per_pixel, zca; pixels are in [0, 1] first
    augment: Augment = field(default_factory=Augment)


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
    momentum: float | None = None  # None: sgd and lars 0.9, muon 0.95, rmsprop none
    nesterov: bool = False
    decay_rate: float = 0.9  # rmsprop: rho
    beta1: float = 0.9  # the adam family
    beta2: float = 0.999
    epsilon: float | None = None  # None: the adam family 1e-8, lamb 1e-6, rmsprop 1e-7
    weight_decay: float = 0.0  # not on biases and norms; decoupled in adamw, lamb and muon
    schedule: str = "constant"
    warmup: float = 0.0  # linear from zero over this fraction of the run
    milestones: tuple[float, ...] = ()  # schedule "step": where the rate drops
    decay_factor: float = 0.1  # schedules "step" and "plateau": by what it is multiplied
    plateau_patience: int = 10  # schedule "plateau": epochs without a lower training loss
    clip_norm: float = 0.0  # global gradient norm; 0: no clipping
    freeze: str = ""  # regular expression; parameters whose path it finds are not trained


@dataclass
class Train:
    """How long, how precisely, and how often to look and to save."""

    epochs: float | None = None  # exactly one of epochs and steps is set
    steps: int | None = None
    label_smoothing: float = 0.0
    dtype: str = "float32"  # of the computation; parameters and statistics stay float32
    accumulate: int = 1  # a step adds up the gradients of this many parts of its batch
    ema_decay: float = 0.0  # evaluate a moving average of the weights; 0: the weights
    skip_nonfinite: int = 0  # steps left out, at most, for gradients that are not finite
    patience: int = 0  # evaluations without improvement before a run ends early; 0: never
    min_change: float = 0.0  # by how much the accuracy must rise to be an improvement
    max_seconds: float = 0.0  # stop then, as on SIGTERM; 0: no limit
    on_save_error: str = "stop"  # or "continue", when a checkpoint can't be written
    log_every: int = 50  # steps
    eval_every: int = 0  # steps; 0: once an epoch
    checkpoint_every: int = 0  # steps; 0: once an epoch


@dataclass
class Config:
    """One run, complete."""

    name: str = ""
    seed: int = 0
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    parallel: str = "jit"
    devices: int = 0  # how many devices to use; 0: all there are


def placement_fields(config: Config) -> set[str]:
    """Returns the fields that move a run's work and not its result: a resumed run may change them.

    Where TFDS data lies is one of them; the path of an image folder or array file is the data.
    """
    fields = {"devices", "parallel", "train.max_seconds", "train.on_save_error"}
    return fields if config.data.name in PATH_SOURCES else fields | {"data.dir"}


def validate(config: Config) -> None:
    """Raises InputError for the first field whose value no dataset or device could make right."""
    data, optim, train = config.data, config.optim, config.train
    _one_of("data.normalization", data.normalization, NORMALIZATIONS)
    _check_data(data)
    _check_augment(data.augment)
    _one_of("optim.name", optim.name, OPTIMIZERS)
    _one_of("optim.schedule", optim.schedule, SCHEDULES)
    _one_of("train.dtype", train.dtype, DTYPES)
    _one_of("train.on_save_error", train.on_save_error, ON_SAVE_ERROR)
    _one_of("parallel", config.parallel, PARALLEL)
    for name, value in flatten(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name} is {value}; it must be finite")
    for name, value, low in _lower_bounds(config):
        if value is not None and not value >= low:
            raise InputError(f"{name} is {value}; it must be at least {low}")
    for name, value in _fractions(config):
        if value is not None and not 0 <= value < 1:
            raise InputError(f"{name} is {value}; it must be at least 0 and below 1")
    if config.model.width is not None and not config.model.width > 0:
        raise InputError(f"model.width is {config.model.width}; it must be above 0")
    if config.seed >= 2**32:
        raise InputError(f"seed is {config.seed}; it must be below 2**32")
    if not optim.learning_rate > 0:
        raise InputError(f"optim.learning_rate is {optim.learning_rate}; it must be above 0")
    if (train.epochs is None) == (train.steps is None):
        raise InputError("exactly one of train.epochs and train.steps must be set")
    if train.epochs is not None and not train.epochs > 0:
        raise InputError(f"train.epochs is {train.epochs}; it must be above 0")
    if data.batch_size % train.accumulate:
        raise InputError(
            f"data.batch_size is {data.batch_size}, not divisible into train.accumulate="
            f"{train.accumulate} parts"
        )
    if any(not 0 < at < 1 for at in optim.milestones):
        raise InputError(f"optim.milestones are {optim.milestones}; each must lie between 0 and 1")
    if list(optim.milestones) != sorted(optim.milestones):
        raise InputError(f"optim.milestones are {optim.milestones}; they must be in rising order")


# The largest sensible value of each field; the others may be as large as they like.
_AUGMENT_LIMITS = {
    "resized_crop": 1,
    "zoom": 0.99,
    "shift": 1,
    "rand_magnitude": 10,
    "exposure": 1,
    "contrast": 1,
    "saturation": 1,
    "hue": 0.5,
    "erasing": 1,
}


def _check_augment(augment: Augment) -> None:
    _one_of("data.augment.border", augment.border, BORDERS)
    for name, value in vars(augment).items():
        high = _AUGMENT_LIMITS.get(name, math.inf)
        if isinstance(value, int | float) and not (0 <= value <= high and value < math.inf):
            span = f"from 0 to {high}" if high < math.inf else "0 or more"
            raise InputError(f"data.augment.{name} is {value}; it must be {span}")
    for pair in (("flip", "alternating_flip"), ("trivial_augment", "rand_augment")):
        if all(getattr(augment, name) for name in pair):
            raise InputError(f"data.augment.{pair[0]} and {pair[1]} are both set; choose one")


def _check_data(data: Data) -> None:
    _one_of("data.on_bad_example", data.on_bad_example, BAD_EXAMPLES)
    if data.channels not in (1, 3):
        raise InputError(f"data.channels is {data.channels}; it must be 1 (gray) or 3 (RGB)")
    shape = data.synthetic.image_shape
    if len(shape) != 3 or not all(type(size) is int and size >= 1 for size in shape):
        raise InputError(
            f"data.synthetic.image_shape is {shape}; it must be height, width and channels"
        )


def _lower_bounds(config: Config) -> list[tuple[str, Any, float]]:
    data, optim, train = config.data, config.optim, config.train
    return [
        ("seed", config.seed, 0),
        ("devices", config.devices, 0),
        ("model.depth", config.model.depth, 1),
        ("data.batch_size", data.batch_size, 1),
        ("data.eval_batch_size", data.eval_batch_size, 1),
        ("data.image_size", data.image_size, 0),
        ("data.synthetic.classes", data.synthetic.classes, 2),
        ("data.synthetic.train_examples", data.synthetic.train_examples, 1),
        ("data.synthetic.test_examples", data.synthetic.test_examples, 1),
        ("optim.weight_decay", optim.weight_decay, 0),
        ("optim.epsilon", optim.epsilon, 0),
        ("optim.clip_norm", optim.clip_norm, 0),
        ("optim.plateau_patience", optim.plateau_patience, 1),
        ("train.steps", train.steps, 1),
        ("train.accumulate", train.accumulate, 1),
        ("train.skip_nonfinite", train.skip_nonfinite, 0),
        ("train.patience", train.patience, 0),
        ("train.min_change", train.min_change, 0),
        ("train.max_seconds", train.max_seconds, 0),
        ("train.log_every", train.log_every, 1),
        ("train.eval_every", train.eval_every, 0),
        ("train.checkpoint_every", train.checkpoint_every, 0),
    ]


def _fractions(config: Config) -> list[tuple[str, float | None]]:
    data, model, optim, train = config.data, config.model, config.optim, config.train
    return [
        ("data.validation_fraction", data.validation_fraction),
        ("data.test_fraction", data.test_fraction),
        ("model.dropout", model.dropout),
        ("model.drop_path", model.drop_path),
        ("optim.momentum", optim.momentum),
        ("optim.decay_rate", optim.decay_rate),
        ("optim.beta1", optim.beta1),
        ("optim.beta2", optim.beta2),
        ("optim.warmup", optim.warmup),
        ("train.label_smoothing", train.label_smoothing),
        ("train.ema_decay", train.ema_decay),
    ]


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise unknown(name, value, known)


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
