import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnn_jax.config import Augment, Config, Data, with_fields
from cnn_jax.config_checks import validate
from cnn_jax.data.augment import STRENGTHS, check_augment, make_augment_fn
from cnn_jax.data.resident import Feed, take_batch
from cnn_jax.errors import InputError
from tests.data.image_checks import pixels, unit

KEY = jax.random.key(1)
N, CLASSES = 16, 4
NUMBERS = jnp.arange(N, dtype=jnp.int32)
BATCH = {
    "image": unit(pixels(N, 8, 6, 3)),
    "label": NUMBERS % CLASSES,
    "index": NUMBERS,
    "epoch": jnp.zeros(N, jnp.int32),
}
EVERY = Augment(
    border="reflect",
    alternating_flip=True,
    flip_vertical=True,
    crop_padding=2,
    resized_crop=0.5,
    shear=0.1,
    rotation=20,
    zoom=0.1,
    shift=0.1,
    trivial_augment=True,
    exposure=0.2,
    brightness=0.1,
    contrast=0.2,
    saturation=0.2,
    hue=0.1,
    lighting=0.1,
    blur=0.5,
    noise=0.05,
    cutout=3,
    erasing=0.5,
    mixup=0.2,
    cutmix=1.0,
)

MIXTURE = Augment(flip=True, crop_padding=2, rotation=20, hue=0.1, noise=0.1, cutout=3, mixup=0.2)


def augment(batch=BATCH, **fields):
    return jax.jit(make_augment_fn(Augment(**fields), CLASSES))(KEY, batch)


def test_nothing_is_done_by_default():
    changed = make_augment_fn(Augment(), CLASSES)(KEY, BATCH)
    assert all(changed[name] is BATCH[name] for name in BATCH)


@pytest.mark.parametrize(
    "fields",
    [
        {f.name: {int: 2, float: 0.5, bool: True}[f.type]}
        for f in dataclasses.fields(Augment)
        if f.name not in ("border", "rand_magnitude")
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_each_field_does_something_by_itself(fields):
    changed = jax.eval_shape(make_augment_fn(Augment(**fields), CLASSES), KEY, BATCH)
    assert changed["image"].shape == BATCH["image"].shape
    soft = {"mixup", "cutmix"} & set(fields)
    assert changed["label"].shape == ((N, CLASSES) if soft else (N,))
    jaxpr = jax.make_jaxpr(make_augment_fn(Augment(**fields), CLASSES))(KEY, BATCH)
    assert len(jaxpr.eqns) > 3


def test_a_mixture_is_the_same_on_any_number_of_devices():
    run = jax.jit(make_augment_fn(MIXTURE, CLASSES))
    results = []
    for count in (1, 8):
        mesh = jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=jax.devices()[:count])
        batch = jax.device_put(BATCH, NamedSharding(mesh, PartitionSpec("data")))
        results.append(run(jax.device_put(KEY, NamedSharding(mesh, PartitionSpec())), batch))
    alone, together = results
    np.testing.assert_allclose(alone["image"], together["image"], atol=1e-5)
    np.testing.assert_allclose(alone["label"], together["label"], atol=1e-6)
    assert alone["image"].dtype == jnp.float32
    assert alone["image"].min() >= 0 and alone["image"].max() <= 1
    np.testing.assert_allclose(alone["label"].sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(alone["index"], NUMBERS)


def test_a_population_maps_over_strengths():
    assert "rotation" in STRENGTHS and "crop_padding" not in STRENGTHS
    fields = {"exposure": 0.3, "rotation": 30.0}

    @jax.jit
    @jax.vmap
    def run(exposure, rotation):
        traced = {"data.augment.exposure": exposure, "data.augment.rotation": rotation}
        config = with_fields(Config(data=Data(augment=Augment(flip=True))), traced)
        return make_augment_fn(config.data.augment, CLASSES)(KEY, BATCH)["image"]

    members = run(jnp.asarray([0.0, 0.3]), jnp.asarray([0.0, 30.0]))
    np.testing.assert_allclose(members[0], augment(flip=True)["image"], atol=1e-6)
    np.testing.assert_allclose(members[1], augment(flip=True, **fields)["image"], atol=1e-5)


def test_all_stays_float32_in_64_bit_mode():
    with jax.enable_x64(True):
        shapes = jax.eval_shape(make_augment_fn(EVERY, CLASSES), KEY, BATCH)
    assert shapes["image"].dtype == shapes["label"].dtype == jnp.float32


def test_what_one_change_draws_does_not_depend_on_the_others():
    flipped = augment(flip=True)["image"]
    brighter = augment(flip=True, brightness=0.1, cutout=2, shift=0.2)
    alone = augment({**BATCH, "image": flipped}, brightness=0.1, cutout=2, shift=0.2)
    np.testing.assert_allclose(brighter["image"], alone["image"], atol=1e-6)


def test_images_that_cannot_be_changed_so_are_refused():
    check_augment(EVERY, (8, 6, 3))
    check_augment(dataclasses.replace(EVERY, hue=0, lighting=0), (8, 6, 1))
    with pytest.raises(InputError, match="hue needs images with 3 channels; these have 1"):
        check_augment(EVERY, (8, 6, 1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"border": "wrap"}, "unknown data.augment.border 'wrap'"),
        ({"crop_padding": -1}, r"data.augment.crop_padding is -1; it must be 0 or more"),
        ({"hue": 0.6}, "data.augment.hue is 0.6; it must be from 0 to 0.5"),
        ({"noise": float("nan")}, "data.augment.noise is nan; it must be finite"),
        ({"rotation": float("inf")}, "data.augment.rotation is inf; it must be finite"),
        ({"flip": True, "alternating_flip": True}, "flip and alternating_flip are both set"),
        ({"trivial_augment": True, "rand_augment": 2}, "choose one"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    config = Config()
    config.train.epochs = 1
    config.data.augment = EVERY
    validate(config)
    config.data.augment = Augment(**fields)
    with pytest.raises(InputError, match=message):
        validate(config)


def test_a_batch_says_which_examples_of_which_epochs_it_holds():
    order = jnp.asarray([2, 0, 1, 1, 2, 0], jnp.int32)
    images = pixels(3, 1, 1, 1)
    feed = Feed(jnp.asarray(images), NUMBERS[:3], order, jnp.asarray(12, jnp.int32))
    batch = jax.jit(lambda step: take_batch(feed, step, batch_size=4))(jnp.asarray(3, jnp.int32))
    np.testing.assert_array_equal(batch["index"], [2, 0, 1, 1])
    np.testing.assert_array_equal(batch["epoch"], [4, 4, 4, 5])
    np.testing.assert_array_equal(batch["image"], images[[2, 0, 1, 1]])
    assert batch["index"].dtype == batch["epoch"].dtype == jnp.int32
