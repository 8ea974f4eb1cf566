import dataclasses
import json
import math

import pytest

from cnn_jax import config as config_module
from cnn_jax import config_checks
from cnn_jax.config import (
    Augment,
    Config,
    Data,
    Model,
    Optim,
    Train,
    differences,
    flatten,
    from_json,
    steps_per_epoch,
    to_json,
    total_steps,
)
from cnn_jax.config_checks import validate
from cnn_jax.errors import InputError
from experiments import configs

# field, value, what the message says is right
BAD_VALUES = [
    ("seed", -1, "at least 0"),
    ("seed", 2**32, "below 2**32"),
    ("devices", -1, "at least 0"),
    ("parallel", "pamp", "Known"),
    ("data.batch_size", 0, "at least 1"),
    ("data.eval_batch_size", 0, "at least 1"),
    ("data.validation_fraction", 1.0, "below 1"),
    ("data.validation_fraction", -0.1, "at least 0"),
    ("data.normalization", "mean_sdt", "did you mean 'mean_std'"),
    ("data.augment.crop_padding", -1, "0 or more"),
    ("data.augment.border", "zeros", "did you mean 'zero'"),
    ("model.dropout", 1.0, "below 1"),
    ("model.dropout", -0.5, "at least 0"),
    ("optim.name", "adma", "did you mean 'adam'"),
    ("optim.schedule", "cosin", "did you mean 'cosine'"),
    ("optim.learning_rate", 0.0, "above 0"),
    ("optim.learning_rate", -1.0, "above 0"),
    ("optim.learning_rate", math.nan, "finite"),
    ("optim.learning_rate", math.inf, "finite"),
    ("optim.momentum", 1.0, "below 1"),
    ("optim.decay_rate", 1.0, "below 1"),
    ("optim.beta1", -0.1, "at least 0"),
    ("optim.beta2", 1.0, "below 1"),
    ("optim.epsilon", -1e-8, "at least 0"),
    ("optim.weight_decay", -1e-4, "at least 0"),
    ("optim.weight_decay", math.nan, "finite"),
    ("optim.clip_norm", -1.0, "at least 0"),
    ("optim.warmup", 1.0, "below 1"),
    ("optim.milestones", (0.0,), "between 0 and 1"),
    ("optim.milestones", (0.5, 1.0), "between 0 and 1"),
    ("optim.milestones", (0.7, 0.3), "rising"),
    ("optim.milestones", ("0.5;0.7",), "a number between 0 and 1"),
    ("optim.milestones", ((0.1,),), "a number between 0 and 1"),
    ("population.halving", ("a",), "a number between 0 and 1"),
    ("data.synthetic.image_shape", ("a",), "height, width and channels"),
    ("data.synthetic.image_shape", (0, 8, 3), "each at least 1"),
    ("data.class_names", ("a", 1), "each must be a string"),
    ("train.label_smoothing", 1.0, "below 1"),
    ("train.dtype", "float16", "bfloat16"),
    ("train.epochs", 0.0, "above 0"),
    ("train.epochs", math.inf, "finite"),
    ("optim.decay_factor", -0.1, "at least 0"),
    ("train.log_every", 0, "at least 1"),
    ("train.eval_every", -1, "at least 0"),
    ("train.checkpoint_every", -1, "at least 0"),
]


CROPPED = Data(image_size=8, crop_files=True, augment=Augment(resized_crop=0.08))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"center_crop": 0.0}, "above 0"),
        ({"center_crop": 1.1}, "1 at the most"),
        (
            {"center_crop": 0.9, "image_size": 0, "crop_files": False},
            "center_crop needs a data.image",
        ),
        ({"image_size": 0}, "data.crop_files needs a data.image_size"),
        ({"augment": Augment()}, "set data.augment.resized_crop, .* or unset data.crop_files"),
        ({"feed": "resident"}, "reads none"),
    ],
)
def test_crops_that_cannot_be(fields, words):
    validate(Config(data=CROPPED, train=Train(steps=1)))
    with pytest.raises(InputError, match=words):
        validate(Config(data=dataclasses.replace(CROPPED, **fields), train=Train(steps=1)))


def test_files_are_cropped_on_the_host_and_not_again_on_the_device():
    assert (CROPPED.host_crop, CROPPED.device_augment) == (0.08, Augment())
    plain = dataclasses.replace(CROPPED, crop_files=False)
    assert (plain.host_crop, plain.device_augment) == (0.0, Augment(resized_crop=0.08))


def _with(field, value):
    config = Config(train=Train(epochs=1.0))
    *path, name = field.split(".")
    part = config
    for each in path:
        part = getattr(part, each)
    setattr(part, name, value)
    return config


def _refused(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_defaults_with_a_length_are_valid():
    assert validate(Config(train=Train(epochs=1.0))) is None
    assert validate(Config(train=Train(steps=1))) is None


@pytest.mark.parametrize(("field", "value", "right"), BAD_VALUES)
def test_a_value_out_of_range_is_named_with_what_is_right(field, value, right):
    message = _refused(validate, _with(field, value))
    assert field in message
    assert right in message


def test_bounds_that_belong_to_the_range_are_valid():
    config = _with("seed", 2**32 - 1)
    config.data.validation_fraction = config.optim.momentum = config.optim.epsilon = 0.0
    config.optim.milestones = (0.3, 0.3, 0.9)
    config.model.dropout = 0.0
    assert validate(config) is None


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.0])
def test_a_plateaus_factor_lies_between_0_and_1(factor):
    config = _with("optim.decay_factor", factor)
    assert validate(config) is None
    config.optim.schedule = "plateau"
    assert "optim.decay_factor" in _refused(validate, config)


@pytest.mark.parametrize("train", [Train(), Train(epochs=1.0, steps=1)], ids=["neither", "both"])
def test_exactly_one_of_epochs_and_steps(train):
    message = _refused(validate, Config(train=train))
    assert "train.epochs" in message and "train.steps" in message


def test_steps_below_one_are_refused():
    assert "train.steps" in _refused(validate, Config(train=Train(steps=0)))


@pytest.mark.parametrize("name", configs.names())
def test_every_config_survives_json(name):
    config = configs.load(name)
    validate(config)
    assert from_json(to_json(config)) == config


def test_json_keeps_types_that_json_does_not_know():
    config = Config(
        name="ä",
        model=Model(dropout=0.5, batch_norm=False),
        optim=Optim(milestones=(0.5, 0.75)),
        train=Train(epochs=2.0),
    )
    again = from_json(to_json(config))
    assert again == config
    assert type(again.optim.milestones) is tuple
    whole = from_json(
        '{"optim": {"learning_rate": 1, "milestones": [0.5]}, "train": {"epochs": 3}}'
    )
    assert [type(v) for v in (whole.optim.learning_rate, whole.train.epochs)] == [float, float]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "not JSON"),
        ("[]", "the config"),
        ('{"data": 3}', "data"),
        ('{"sede": 1}', "did you mean 'seed'"),
        ('{"optim": {"learning_rte": 1}}', "did you mean 'optim.learning_rate'"),
        ('{"seed": 1.5}', "seed"),
        ('{"seed": "1"}', "seed"),
        ('{"seed": null}', "seed"),
        ('{"seed": true}', "seed"),
        ('{"data": {"name": 3}}', "data.name"),
        ('{"data": {"augment": {"flip": 1}}}', "data.augment.flip"),
        ('{"optim": {"milestones": 0.5}}', "optim.milestones"),
        ('{"optim": {"milestones": ["half"]}}', "optim.milestones[0]"),
        ('{"train": {"steps": 1.5}}', "train.steps"),
        ('{"model": {"dropout": "a"}}', "model.dropout"),
    ],
)
def test_a_json_that_is_no_config_is_refused(text, named):
    assert named in _refused(from_json, text)


def test_differences_are_by_path_with_old_and_new():
    old = Config(data=Data(batch_size=8))
    new = Config(data=Data(batch_size=16), optim=Optim(name="adam"))
    assert differences(old, new) == {
        "data.batch_size": (8, 16),
        "optim.name": ("sgd", "adam"),
    }
    assert differences(old, dataclasses.replace(old)) == {}


def test_flatten_lists_every_field_once_in_order():
    flat = flatten(Config())
    assert list(flat)[:3] == ["name", "study", "seed"]
    assert flat["data.augment.border"] == "zero"
    leaves = json.loads(to_json(Config()))
    assert len(flat) == sum(1 for _ in _leaves(leaves))
    assert flat.keys() >= config_module.placement_fields(Config())


def test_what_is_checked_is_a_field():
    checks = config_checks
    named = {*checks._CHOICES, *checks._AT_LEAST, *checks._ABOVE_ZERO, *checks._FRACTIONS}
    named |= {f"data.augment.{name}" for name in checks._AUGMENT_LIMITS}
    assert named <= flatten(Config()).keys()


def _leaves(values):
    for value in values.values():
        yield from _leaves(value) if isinstance(value, dict) else [value]


@pytest.mark.parametrize(
    ("epochs", "examples", "batch_size", "steps"),
    [
        (1.0, 100, 10, 10),
        (1.0, 101, 10, 11),
        (3.0, 101, 10, 31),  # not 33: batches run on into the next epoch
        (0.5, 100, 10, 5),
        (0.001, 100, 10, 1),
        (60.0, 1350, 64, 1266),
    ],
)
def test_total_steps_from_epochs(epochs, examples, batch_size, steps):
    config = Config(data=Data(batch_size=batch_size), train=Train(epochs=epochs))
    assert total_steps(config, examples) == steps


def test_total_steps_as_given():
    assert total_steps(Config(train=Train(steps=7)), 1000) == 7


@pytest.mark.parametrize(
    ("examples", "batch_size", "steps"), [(100, 10, 10), (104, 10, 10), (106, 10, 11), (3, 64, 1)]
)
def test_steps_per_epoch_is_the_nearest_whole_number(examples, batch_size, steps):
    assert steps_per_epoch(Config(data=Data(batch_size=batch_size)), examples) == steps


def test_epochs_are_taken_as_written():
    config = Config()
    config.train.epochs, config.data.batch_size = 1.1, 1
    assert total_steps(config, 10) == 11
