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
    flatten,
    is_population,
)
from cnn_jax.errors import InputError, unknown


def validate(config: Config) -> None:
    """Raises InputError for the first field whose value no dataset or device could make right."""
    data, optim, train = config.data, config.optim, config.train
    _one_of("data.normalization", data.normalization, NORMALIZATIONS)
    _check_data(data)
    _check_augment(data.augment)
    _one_of("optim.name", optim.name, OPTIMIZERS)
    _one_of("optim.schedule", optim.schedule, SCHEDULES)
    _one_of("train.monitor", train.monitor, MONITORS)
    if is_population(config) and train.monitor != "accuracy":
        raise InputError("a population compares its members by accuracy; unset train.monitor")
    _one_of("train.loss", train.loss, LOSSES)
    _one_of("train.dtype", train.dtype, DTYPES)
    _one_of("train.batch_statistics", train.batch_statistics, BATCH_STATISTICS)
    _one_of("train.on_save_error", train.on_save_error, ON_SAVE_ERROR)
    _one_of("parallel", config.parallel, PARALLEL)
    _one_of("population.combine", config.population.combine, COMBINATIONS)
    _one_of("population.strategy", config.population.strategy, STRATEGIES)
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
    if is_population(config) and data.feed == "streaming":
        raise InputError("data.feed is streaming; a population takes resident (or auto)")
    if config.seed >= 2**32:
        raise InputError(f"seed is {config.seed}; it must be below 2**32")
    if not optim.learning_rate > 0:
        raise InputError(f"optim.learning_rate is {optim.learning_rate}; it must be above 0")
    if optim.schedule == "plateau" and not 0 < optim.decay_factor < 1:
        raise InputError(
            f"optim.decay_factor is {optim.decay_factor}; for the schedule plateau it must lie "
            "between 0 and 1"
        )
    if (train.epochs is None) == (train.steps is None):
        raise InputError("exactly one of train.epochs and train.steps must be set")
    if train.epochs is not None and not train.epochs > 0:
        raise InputError(f"train.epochs is {train.epochs}; it must be above 0")
    if data.batch_size % train.accumulate:
        raise InputError(
            f"data.batch_size is {data.batch_size}, not divisible into train.accumulate="
            f"{train.accumulate} parts"
        )
    _check_rising("optim.milestones", optim.milestones)
    _check_rising("population.halving", config.population.halving)


def _check_rising(name: str, fractions: tuple[Any, ...]) -> None:
    if any(not isinstance(at, int | float) or not 0 < at < 1 for at in fractions):
        raise InputError(f"{name} are {fractions}; each must be a number between 0 and 1")
    if list(fractions) != sorted(fractions):
        raise InputError(f"{name} are {fractions}; they must be in rising order")


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
    _one_of("data.feed", data.feed, FEEDS)
    if data.workers and data.feed == "resident":
        raise InputError(
            f"data.workers is {data.workers}, but data.feed=resident decodes nothing while it "
            "trains; leave one of them out"
        )
    if data.channels not in (1, 3):
        raise InputError(f"data.channels is {data.channels}; it must be 1 (gray) or 3 (RGB)")
    if not all(isinstance(name, str) for name in data.class_names):
        raise InputError(
            f"data.class_names are {data.class_names}; each must be a string, as in 'a','1'"
        )
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
        ("data.workers", data.workers, 0),
        ("data.image_size", data.image_size, 0),
        ("data.test_shift", data.test_shift, 0),
        ("data.synthetic.classes", data.synthetic.classes, 2),
        ("data.synthetic.train_examples", data.synthetic.train_examples, 1),
        ("data.synthetic.test_examples", data.synthetic.test_examples, 1),
        ("population.seeds", config.population.seeds, 0),
        ("optim.weight_decay", optim.weight_decay, 0),
        ("optim.epsilon", optim.epsilon, 0),
        ("optim.clip_norm", optim.clip_norm, 0),
        ("optim.decay_factor", optim.decay_factor, 0),
        ("optim.plateau_patience", optim.plateau_patience, 1),
        ("train.steps", train.steps, 1),
        ("train.accumulate", train.accumulate, 1),
        ("train.skip_nonfinite", train.skip_nonfinite, 0),
        ("train.patience", train.patience, 0),
        ("train.min_change", train.min_change, 0),
        ("train.max_seconds", train.max_seconds, 0),
        ("train.steps_per_dispatch", train.steps_per_dispatch, 0),
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
