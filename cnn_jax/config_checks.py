"""Which values of a config's fields are right, checked before any work starts."""

import math
from typing import Any

from cnn_jax.config import (
    BAD_EXAMPLES,
    BATCH_STATISTICS,
    BORDERS,
    COMBINATIONS,
    DTYPES,
    FEEDS,
    LOSSES,
    MONITORS,
    NORMALIZATIONS,
    ON_SAVE_ERROR,
    OPTIMIZERS,
    PARALLEL,
    SCHEDULES,
    STRATEGIES,
    Augment,
    Config,
    Data,
    Optim,
    Population,
    Train,
    flatten,
    is_population,
)
from cnn_jax.errors import InputError, unknown

_CHOICES = {
    "data.normalization": NORMALIZATIONS,
    "data.on_bad_example": BAD_EXAMPLES,
    "data.feed": FEEDS,
    "data.augment.border": BORDERS,
    "optim.name": OPTIMIZERS,
    "optim.schedule": SCHEDULES,
    "train.monitor": MONITORS,
    "train.loss": LOSSES,
    "train.dtype": DTYPES,
    "train.batch_statistics": BATCH_STATISTICS,
    "train.on_save_error": ON_SAVE_ERROR,
    "parallel": PARALLEL,
    "population.combine": COMBINATIONS,
    "population.strategy": STRATEGIES,
}
_AT_LEAST = {
    "seed": 0,
    "devices": 0,
    "model.depth": 1,
    "data.batch_size": 1,
    "data.eval_batch_size": 1,
    "data.workers": 0,
    "data.image_size": 0,
    "data.test_shift": 0,
    "data.synthetic.classes": 2,
    "data.synthetic.train_examples": 1,
    "data.synthetic.test_examples": 1,
    "population.seeds": 0,
    "optim.weight_decay": 0,
    "optim.epsilon": 0,
    "optim.clip_norm": 0,
    "optim.decay_factor": 0,
    "optim.plateau_patience": 1,
    "train.steps": 1,
    "train.accumulate": 1,
    "train.skip_nonfinite": 0,
    "train.patience": 0,
    "train.min_change": 0,
    "train.max_seconds": 0,
    "train.stall_seconds": 0,
    "train.steps_per_dispatch": 0,
    "train.log_every": 1,
    "train.eval_every": 0,
    "train.checkpoint_every": 0,
}
_ABOVE_ZERO = ("model.width", "optim.learning_rate", "train.epochs", "data.center_crop")
_FRACTIONS = (  # from 0, below 1
    "data.validation_fraction",
    "data.test_fraction",
    "model.dropout",
    "model.drop_path",
    "optim.momentum",
    "optim.decay_rate",
    "optim.beta1",
    "optim.beta2",
    "optim.warmup",
    "train.label_smoothing",
    "train.ema_decay",
)
# The largest sensible strength of each augmentation; the others may be as large as they like.
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


def validate(config: Config) -> None:
    """Raises InputError for the first field whose value no dataset or device could make right."""
    fields = flatten(config)
    for name, known in _CHOICES.items():
        if fields[name] not in known:
            raise unknown(name, fields[name], known)
    for name, value in fields.items():
        if value is not None:
            _check_number(name, value)
    _check_augment(config.data.augment)
    _check_data(config.data)
    _check_optim(config.optim)
    _check_train(config.train, config.data.batch_size)
    if config.seed >= 2**32:
        raise InputError(f"seed is {config.seed}; it must be below 2**32")
    _check_rising("population.halving", config.population.halving)
    if is_population(config):
        _check_population(config)


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name} is {value}; it must be finite")
    if name in _AT_LEAST and not value >= _AT_LEAST[name]:
        raise InputError(f"{name} is {value}; it must be at least {_AT_LEAST[name]}")
    if name in _ABOVE_ZERO and not value > 0:
        raise InputError(f"{name} is {value}; it must be above 0")
    if name in _FRACTIONS and not 0 <= value < 1:
        raise InputError(f"{name} is {value}; it must be at least 0 and below 1")


def _check_augment(augment: Augment) -> None:
    for name, value in vars(augment).items():
        high = _AUGMENT_LIMITS.get(name, math.inf)
        if isinstance(value, int | float) and not 0 <= value <= high:
            span = f"from 0 to {high}" if high < math.inf else "0 or more"
            raise InputError(f"data.augment.{name} is {value}; it must be {span}")
    for pair in (("flip", "alternating_flip"), ("trivial_augment", "rand_augment")):
        if all(getattr(augment, name) for name in pair):
            raise InputError(f"data.augment.{pair[0]} and {pair[1]} are both set; choose one")


def _check_data(data: Data) -> None:
    if data.workers and data.feed == "resident":
        raise InputError(
            f"data.workers is {data.workers}, but data.feed=resident decodes nothing while it "
            "trains; leave one of them out"
        )
    _check_crops(data)
    if data.channels not in (1, 3):
        raise InputError(f"data.channels is {data.channels}; it must be 1 (gray) or 3 (RGB)")
    if not all(isinstance(name, str) for name in data.class_names):
        raise InputError(
            f"data.class_names are {data.class_names}; each must be a string, as in 'a','1'"
        )
    shape = data.synthetic.image_shape
    if len(shape) != 3 or not all(type(size) is int and size >= 1 for size in shape):
        raise InputError(
            f"data.synthetic.image_shape is {shape}; it must be height, width and channels, each "
            "at least 1"
        )


def _check_crops(data: Data) -> None:
    if data.center_crop > 1:
        raise InputError(f"data.center_crop is {data.center_crop}; it must be 1 at the most")
    for name in ("center_crop", "crop_files"):
        if getattr(data, name) != getattr(Data, name) and not data.image_size:
            raise InputError(
                f"data.{name} needs a data.image_size, that of a crop; set it, or unset data.{name}"
            )
    if data.crop_files and not data.augment.resized_crop:
        raise InputError(
            "data.crop_files is set, but there are no random crops; set data.augment.resized_crop, "
            "for ImageNet 0.08, or unset data.crop_files"
        )
    if data.crop_files and data.feed == "resident":
        raise InputError(
            "data.crop_files cuts from files while it trains, and data.feed=resident reads none; "
            "leave one of them out"
        )


def _check_optim(optim: Optim) -> None:
    if optim.schedule == "plateau" and not 0 < optim.decay_factor < 1:
        raise InputError(
            f"optim.decay_factor is {optim.decay_factor}; for the schedule plateau it must lie "
            "between 0 and 1"
        )
    _check_rising("optim.milestones", optim.milestones)


def _check_train(train: Train, batch_size: int) -> None:
    if (train.epochs is None) == (train.steps is None):
        raise InputError("exactly one of train.epochs and train.steps must be set")
    if batch_size % train.accumulate:
        raise InputError(
            f"data.batch_size is {batch_size}, not divisible into train.accumulate="
            f"{train.accumulate} parts"
        )


def check_effect(config: Config) -> None:
    """Raises InputError for what no new run should ask for, as it isn't what it seems.

    These are a population's fields in a single run, how strongly RandAugment works where it is off,
    and schedules that warm up twice or have steps at no time.
    """
    _check_schedule(config.optim)
    augment = config.data.augment
    if augment.rand_magnitude != Augment.rand_magnitude and not augment.rand_augment:
        raise InputError(
            f"data.augment.rand_magnitude is {augment.rand_magnitude}, but RandAugment is off; set "
            "data.augment.rand_augment, too"
        )
    for name, value in vars(config.population).items():
        if value != getattr(Population, name) and not is_population(config):
            raise InputError(
                f"population.{name} is {value}, but this is a single run; set population.seeds or "
                "population.values, too"
            )


def _check_schedule(optim: Optim) -> None:
    if optim.schedule == "one_cycle" and optim.warmup:
        raise InputError(
            f"optim.warmup is {optim.warmup}, but optim.schedule=one_cycle warms up by itself, for "
            "0.3 of the run; set optim.warmup=0"
        )
    if optim.schedule == "step" and not optim.milestones:
        raise InputError(
            "optim.schedule is step, but optim.milestones are empty, so the rate would never drop; "
            "set them, such as 0.5,0.75"
        )


def _check_population(config: Config) -> None:
    if config.train.monitor != "accuracy":
        raise InputError("a population compares its members by accuracy; unset train.monitor")
    if config.data.feed == "streaming":
        raise InputError("data.feed is streaming; a population takes resident (or auto)")
    if config.data.crop_files:
        raise InputError(
            "data.crop_files streams; a population takes images held on the device. Unset it"
        )


def _check_rising(name: str, fractions: tuple[Any, ...]) -> None:
    if any(not isinstance(at, int | float) or not 0 < at < 1 for at in fractions):
        raise InputError(f"{name} are {fractions}; each must be a number between 0 and 1")
    if list(fractions) != sorted(fractions):
        raise InputError(f"{name} are {fractions}; they must be in rising order")
