from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cnn_jax.analysis import image_parametrization as parametrization
from cnn_jax.analysis.activation_maximization import (
    Recipe,
    channel_images,
    class_images,
    recipe_for,
    shifted,
)
from cnn_jax.analysis.deep_dream import deep_dream, octave_sizes
from cnn_jax.analysis.features import activation
from cnn_jax.errors import InputError
from tests.analysis.small import IMAGES, MODEL, SHAPE, VARIABLES, prepare

KEY = jax.random.key(0)
QUICK = Recipe(steps=12, learning_rate=0.2, jitter=1, total_variation=0.1)
OPTIONS = {"image_shape": SHAPE, "prepare": prepare}


def class_scores(images, classes):
    logits = jax.jit(partial(MODEL.apply, train=False))(VARIABLES, prepare(images))
    return np.asarray(logits)[np.arange(len(classes)), classes]


@pytest.mark.parametrize(
    "recipe", [QUICK, Recipe(steps=12, learning_rate=0.2, jitter=0, blur=0.3, spectrum=False)]
)
def test_each_class_has_an_image_that_it_answers_to_most(recipe):
    classes = np.array([0, 1, 2, 1])
    images = class_images(KEY, MODEL, VARIABLES, jnp.asarray(classes), recipe=recipe, **OPTIONS)
    assert images.shape == (4, *SHAPE)
    assert images.min() >= 0 and images.max() <= 1
    assert not np.allclose(images[1], images[3], atol=1e-3)  # other noise, another image
    start = parametrization.to_images(
        parametrization.start(KEY, count=4, shape=SHAPE, spectrum=True),
        shape=SHAPE,
        spectrum=True,
    )
    reached = class_scores(images, classes)
    assert (reached > class_scores(start, classes) + 0.5).all()
    assert (reached > class_scores(IMAGES, classes[:3]).max()).any()


def test_channels_have_images_of_any_size_before_the_dense_layers():
    channels = jnp.array([1, 2])
    images = channel_images(
        KEY,
        MODEL,
        VARIABLES,
        channels,
        layer="conv2",
        image_shape=(12, 10, 3),
        recipe=QUICK,
        prepare=prepare,
    )
    assert images.shape == (2, 12, 10, 3)
    shown = jnp.concatenate([images, jax.random.uniform(KEY, (20, 12, 10, 3))])  # and noise
    activations = jax.jit(partial(activation, MODEL, layer="conv2", prepare=prepare))
    means = np.asarray(activations(VARIABLES, shown)).mean((1, 2))
    means, usual = means[:2], means[2:]
    for i, channel in enumerate(np.asarray(channels)):
        assert means[i, channel] > usual[:, channel].max()
    with pytest.raises(InputError, match="unknown layer"):
        channel_images(KEY, MODEL, VARIABLES, channels, layer="conv9", image_shape=SHAPE)


def test_a_class_or_channel_that_there_is_not_is_refused():
    arguments, options = (KEY, MODEL, VARIABLES, jnp.array([0, 6])), {"recipe": QUICK}
    with pytest.raises(ValueError, match="no class or channel 6, only 0 to 2"):
        class_images(*arguments, image_shape=SHAPE, **options)
    with pytest.raises(ValueError, match="no class or channel 6, only 0 to 5"):
        channel_images(*arguments, layer="conv2", image_shape=SHAPE, **options)


def test_small_images_are_moved_less_and_not_flattened():
    assert recipe_for((32, 48, 3)) == recipe_for((224, 224, 3)) == Recipe()
    assert recipe_for((28, 64, 1)) == Recipe(jitter=3, total_variation=0.0)
    assert recipe_for((8, 8, 1), jitter=4) == Recipe(jitter=4, total_variation=0.0)
    assert recipe_for((8, 8, 1), steps=9, total_variation=1.0) == Recipe(steps=9, jitter=1)


def test_as_one_program_it_gives_the_same_images():
    make = partial(class_images, KEY, MODEL, recipe=QUICK, **OPTIONS)
    arguments = VARIABLES, jnp.arange(2)
    np.testing.assert_allclose(make(*arguments), jax.jit(make)(*arguments), atol=5e-3)


@pytest.mark.parametrize("shape", [(8, 8, 3), (7, 10, 1)])
def test_a_spectrum_stands_for_the_image_that_its_inverse_transform_is(shape):
    numbers = parametrization.start(KEY, count=2, shape=shape, spectrum=True)
    found = parametrization.to_images(numbers, shape=shape, spectrum=True)
    assert found.shape == (2, *shape)
    height, width, channels = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    gain = np.sqrt(height * width) / np.maximum(frequency, 1 / max(height, width))
    real, imaginary = np.moveaxis(np.asarray(numbers, np.float64), -1, 0)
    coefficients = (real + 1j * imaginary) * gain[None, ..., None]
    values = np.fft.irfft2(coefficients, s=(height, width), axes=(1, 2))
    if channels == 3:
        values = values @ parametrization.COLORS.T
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-values)), atol=1e-5)


@pytest.mark.parametrize("spectrum", [True, False])
def test_blur_is_a_gaussian_that_wraps(spectrum):
    shape, options = (16, 16, 1), {"shape": (16, 16, 1), "spectrum": spectrum}
    numbers = parametrization.start(KEY, count=1, **options)
    logit = lambda n: (
        np.log(i := np.asarray(parametrization.to_images(n, **options))) - np.log1p(-i)
    )
    blurred = logit(parametrization.blur(numbers, sigma=1.2, **options))
    expected = gaussian_filter(logit(numbers)[0, ..., 0], 1.2, mode="wrap", truncate=6)
    assert blurred.shape == (1, *shape)
    np.testing.assert_allclose(blurred[0, ..., 0], expected, atol=2e-3)


def test_total_variation_is_the_mean_step_between_neighbours():
    ramp = jnp.tile(jnp.arange(4.0)[:, None, None], (1, 5, 2))[None]
    found = parametrization.total_variation(jnp.concatenate([ramp, jnp.ones_like(ramp)]))
    np.testing.assert_allclose(found, [1, 0])


def test_a_shift_wraps_and_is_of_at_most_so_many_pixels():
    image = jnp.zeros((1, 9, 9, 1)).at[0, 0, 0].set(1)
    places = set()
    for i in range(40):
        moved = np.asarray(shifted(jax.random.key(i), image, 1))[0, ..., 0]
        places.add(tuple(np.argwhere(moved)[0].tolist()))
    assert places == {(r, c) for r in (0, 1, 8) for c in (0, 1, 8)}


def test_a_dream_excites_the_layer_and_keeps_the_size():
    images = jax.image.resize(IMAGES[:2], (2, 14, 12, 3), "linear")
    dream = deep_dream(
        KEY,
        MODEL,
        VARIABLES,
        images,
        layer="act2",
        octaves=2,
        steps=4,
        step_size=0.03,
        jitter=1,
        prepare=prepare,
    )
    assert dream.shape == images.shape
    assert dream.min() >= 0 and dream.max() <= 1
    activations = jax.jit(partial(activation, MODEL, layer="act2", prepare=prepare))
    strength = lambda x: np.square(activations(VARIABLES, x)).mean((1, 2, 3))
    assert (strength(dream) > 1.2 * strength(images)).all()
    assert octave_sizes((14, 12), 2, 1.4) == [(10, 9), (14, 12)]
