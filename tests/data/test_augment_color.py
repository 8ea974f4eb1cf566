import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import ndimage

from cnn_jax.data.augment import color, filters, tones
from cnn_jax.errors import InputError
from tests.data.image_checks import check_change, pixels, unit

KEY = jax.random.key(5)
PIXELS = pixels(3, 8, 7, 3)
IMAGES = unit(PIXELS)
LEVEL = 1 / 255  # Pillow rounds to levels


def by_pillow(change, images=PIXELS):
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in images]) / 255


@pytest.mark.parametrize("factor", [0.3, 1.7])
@pytest.mark.parametrize(
    ("change", "enhancer"),
    [
        (color.adjust_exposure, ImageEnhance.Brightness),
        (color.adjust_contrast, ImageEnhance.Contrast),
        (color.adjust_saturation, ImageEnhance.Color),
        (filters.adjust_sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements_against_pillow(change, enhancer, factor):
    expected = by_pillow(lambda image: enhancer(image).enhance(factor))
    check_change(lambda x: change(x, factor=factor), IMAGES, expected, atol=1.6 * LEVEL)


def test_smoothing_is_pillows():
    expected = by_pillow(lambda image: image.filter(ImageFilter.SMOOTH))
    check_change(filters.smooth, IMAGES, expected, atol=0.51 * LEVEL)


def test_brightness_is_added():
    expected = np.clip(np.asarray(IMAGES) + 0.4, 0, 1)
    check_change(lambda x: color.adjust_brightness(x, delta=0.4), IMAGES, expected)


@pytest.mark.parametrize("delta", [0.0, 0.13, -0.5, 0.9])
def test_hue_against_colorsys(delta):
    greys = np.repeat(pixels(1, 8, 7, 1), 3, axis=-1)
    images = unit(np.concatenate([PIXELS, greys, 255 * (PIXELS[:1] > 127)]))

    def turned(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((hue + delta) % 1, saturation, value)

    expected = np.apply_along_axis(turned, -1, np.asarray(images, np.float64))
    check_change(lambda x: color.adjust_hue(x, delta=delta), images, expected)


def test_hue_needs_three_channels():
    with pytest.raises(InputError, match="3 channels; these have 1"):
        color.adjust_hue(IMAGES[..., :1], delta=0.1)


def test_lighting_is_a_shift_by_weighted_principal_colours():
    values = np.array([0.2175, 0.0188, 0.0045])
    colors = np.array(color._PRINCIPAL) / values  # in the columns
    np.testing.assert_allclose(colors.T @ colors, np.eye(3), atol=2e-4)
    assert (np.abs(colors[:, 0] + 3**-0.5) < 0.02).all()  # the first is gray, near enough
    amounts = np.random.default_rng(0).normal(0, 0.2, (3, 3))
    shifts = np.stack([colors @ (values * each) for each in amounts])
    expected = np.clip(np.asarray(IMAGES) + shifts[:, None, None], 0, 1)
    check_change(
        lambda x: color.adjust_lighting(x, amounts=jnp.asarray(amounts, "f4")), IMAGES, expected
    )
    with pytest.raises(InputError, match="lighting needs images with 3 channels; these have 1"):
        color.adjust_lighting(IMAGES[..., :1], amounts=jnp.zeros((3, 3)))


def test_amounts_of_light_are_drawn_for_each_image_and_colour():
    images = jnp.full((4000, 1, 1, 3), 0.5)
    changed = jax.jit(lambda x: color.random_lighting(KEY, x, strength=0.1))(images)
    amounts = np.linalg.solve(np.array(color._PRINCIPAL), np.asarray(changed)[:, 0, 0].T - 0.5)
    np.testing.assert_allclose(amounts.std(axis=1), 0.1, rtol=0.05)
    np.testing.assert_allclose(amounts.mean(axis=1), 0, atol=0.006)
    assert (np.abs(np.corrcoef(amounts) - np.eye(3)) < 0.06).all()


@pytest.mark.parametrize("channels", [1, 4])
def test_the_luminance_of_other_channels_is_their_mean(channels):
    images = unit(pixels(2, 4, 5, channels))
    grey = np.asarray(images).mean(axis=-1, keepdims=True)
    expected = np.broadcast_to(grey, images.shape)
    np.testing.assert_allclose(color.adjust_saturation(images, factor=0), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "pillow"),
    [
        (lambda x: tones.posterize(x, bits=3), lambda image: ImageOps.posterize(image, 3)),
        (lambda x: tones.posterize(x, bits=8), lambda image: image),
        (
            lambda x: tones.solarize(x, threshold=100 / 255),
            lambda image: ImageOps.solarize(image, 100),
        ),
        (tones.autocontrast, ImageOps.autocontrast),
        (tones.equalize, ImageOps.equalize),
    ],
    ids=["posterize", "posterize to all bits", "solarize", "autocontrast", "equalize"],
)
def test_tones_against_pillow(change, pillow):
    dark = (PIXELS // 3 + 20).astype(np.uint8)
    large = pixels(3, 40, 40, 3, seed=1) // 2 + pixels(3, 40, 40, 3, seed=2) // 3
    constant = np.full((1, 40, 40, 3), 77, np.uint8)
    for images in (dark, np.concatenate([large, constant])):
        expected = by_pillow(pillow, images)
        # Pillow cuts fractions of a level off; ours are kept
        atol = 1.01 * LEVEL if pillow is ImageOps.autocontrast else 1e-5
        check_change(change, unit(images), expected, atol=atol)


def test_blur_against_scipy():
    sigmas = [0.4, 1.0, 2.0]
    expected = [
        ndimage.gaussian_filter(np.asarray(image, np.float64), (sigma, sigma, 0), truncate=8)
        for image, sigma in zip(IMAGES, sigmas, strict=True)
    ]
    blur = jax.jit(lambda x, sigma: filters.gaussian_blur(x, sigma=sigma))
    np.testing.assert_allclose(blur(IMAGES, jnp.asarray(sigmas)), np.stack(expected), atol=1e-4)
    check_change(
        lambda x: filters.gaussian_blur(x, sigma=1.0), IMAGES, blur(IMAGES, jnp.ones(3)), atol=1e-6
    )


# Each random change has a deterministic one that it draws for.
RANDOM = {
    color.random_brightness: (lambda x, u: color.adjust_brightness(x, delta=u), 0),
    color.random_exposure: (lambda x, u: color.adjust_exposure(x, factor=1 + u), 0),
    color.random_contrast: (lambda x, u: color.adjust_contrast(x, factor=1 + u), 0),
    color.random_saturation: (lambda x, u: color.adjust_saturation(x, factor=1 + u), 0),
    color.random_hue: (lambda x, u: color.adjust_hue(x, delta=u), 1e-6),
}


OTHERS = (color.random_lighting, filters.random_blur, filters.random_noise)


@pytest.mark.parametrize("change", [*RANDOM, *OTHERS])
def test_strength_zero_is_the_identity_known_or_traced(change):
    atol = RANDOM.get(change, (None, 0))[1]
    both = jax.jit(lambda s, x: (change(KEY, x, strength=0), change(KEY, x, strength=s)))
    for changed in both(jnp.zeros(()), IMAGES):
        np.testing.assert_allclose(changed, IMAGES, rtol=0, atol=atol)


@pytest.mark.parametrize("change", RANDOM)
def test_each_image_draws_from_both_sides_of_no_change(change):
    adjust, _ = RANDOM[change]
    # One pixel pair that no draw can take to its limits, in many images.
    pair = jnp.asarray([[0.5, 0.4, 0.3], [0.35, 0.42, 0.5]]).reshape(1, 1, 2, 3)
    images = jnp.broadcast_to(pair, (1000, 1, 2, 3))
    changed = np.asarray(jax.jit(lambda x: change(KEY, x, strength=0.1))(images))
    grid = np.linspace(-0.1, 0.1, 201)
    pairs = jnp.broadcast_to(pair, (201, 1, 2, 3))
    table = np.asarray(jax.jit(adjust)(pairs, jnp.asarray(grid, "f4")))
    distances = ((changed[:, None] - table[None]) ** 2).sum(axis=(2, 3, 4))
    assert distances.min(axis=1).max() < 1e-5  # every draw lies within the limits
    drawn = grid[distances.argmin(axis=1)]
    assert abs(drawn.mean()) < 4 * 0.1 / np.sqrt(3 * 1000)
    assert abs(drawn.std() / (0.1 / np.sqrt(3)) - 1) < 0.1


def test_noise_is_normal_and_stays_in_range():
    images = jnp.full((20, 20, 20, 3), 0.5)
    noise = np.asarray(filters.random_noise(KEY, images, strength=0.1)) - 0.5
    assert abs(noise.mean()) < 4 * 0.1 / np.sqrt(noise.size)
    assert abs(noise.std() / 0.1 - 1) < 0.02
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.12
    strong = filters.random_noise(KEY, images, strength=5.0)
    assert strong.min() == 0 and strong.max() == 1
