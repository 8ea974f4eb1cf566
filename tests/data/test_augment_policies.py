import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from cnn_jax.data.augment import policies
from cnn_jax.data.augment.policies import Operation, Ranges
from tests.data.image_checks import pixels, unit

KEY = jax.random.key(2)
H, W = 12, 10
RANGES = Ranges(shear=0.3, translate_x=4.2, translate_y=5.2, rotate=40, factor=0.9, bits=6)


def affine(*data):
    return lambda image, m: image.transform(
        image.size, Image.AFFINE, [float(f(m)) for f in data], Image.BILINEAR
    )


one, none = (lambda m: 1), (lambda m: 0)
PILLOW = {
    Operation.IDENTITY: lambda image, m: image,
    Operation.SHEAR_X: affine(one, lambda m: -0.3 * m, none, none, one, none),
    Operation.SHEAR_Y: affine(one, none, none, lambda m: -0.3 * m, one, none),
    Operation.TRANSLATE_X: affine(one, none, lambda m: -4.2 * m, none, one, none),
    Operation.TRANSLATE_Y: affine(one, none, none, none, one, lambda m: -5.2 * m),
    Operation.ROTATE: lambda image, m: image.rotate(40 * m, Image.BILINEAR),
    Operation.BRIGHTNESS: lambda image, m: ImageEnhance.Brightness(image).enhance(1 + 0.9 * m),
    Operation.COLOR: lambda image, m: ImageEnhance.Color(image).enhance(1 + 0.9 * m),
    Operation.CONTRAST: lambda image, m: ImageEnhance.Contrast(image).enhance(1 + 0.9 * m),
    Operation.SHARPNESS: lambda image, m: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * m),
    Operation.POSTERIZE: lambda image, m: ImageOps.posterize(image, 8 - round(6 * abs(m))),
    Operation.SOLARIZE: lambda image, m: ImageOps.solarize(image, 256 * (1 - abs(m))),
    Operation.AUTOCONTRAST: lambda image, m: ImageOps.autocontrast(image),
    Operation.EQUALIZE: lambda image, m: ImageOps.equalize(image),
}


def test_each_operation_against_pillow():
    image = pixels(H, W, 3)
    which = jnp.repeat(jnp.arange(len(Operation), dtype=jnp.int32), 3)
    magnitude = jnp.tile(jnp.asarray([-0.7, 0.0, 0.55]), len(Operation))
    images = jnp.broadcast_to(unit(image), (len(which), H, W, 3))
    run = jax.jit(lambda x: policies.apply_operation(x, which, magnitude, ranges=RANGES))
    changed = run(images)
    for operation, m, result in zip(which, magnitude, np.asarray(changed), strict=True):
        expected = np.asarray(PILLOW[Operation(int(operation))](Image.fromarray(image), float(m)))
        np.testing.assert_allclose(result, expected / 255, atol=1.7 / 255, err_msg=(operation, m))


def draws(monkeypatch, run):
    """Returns the operations and magnitudes that a policy asks for."""
    asked = []

    def record(images, which, magnitude, *, ranges, border):
        asked.append((np.asarray(which), np.asarray(magnitude)))
        return images

    monkeypatch.setattr(policies, "apply_operation", record)
    with jax.disable_jit():  # loops too: what is asked for has values
        run(jnp.zeros((7000, 1, 1, 3)))
    return asked


def check_even_counts(numbers, bins):
    counts = np.bincount(numbers, minlength=bins)
    expected = len(numbers) / bins
    assert len(counts) == bins
    assert abs(counts - expected).max() < 4.5 * np.sqrt(expected)


def test_trivial_augment_draws_evenly(monkeypatch):
    [(which, magnitude)] = draws(monkeypatch, lambda x: policies.trivial_augment(KEY, x))
    check_even_counts(which, 14)
    check_even_counts(np.round(abs(magnitude) * 30).astype(int), 31)
    check_even_counts((magnitude[magnitude != 0] > 0).astype(int), 2)


def test_rand_augment_draws_each_operation_anew_at_one_magnitude(monkeypatch):
    asked = draws(monkeypatch, lambda x: policies.rand_augment(KEY, x, operations=3, magnitude=4))
    assert len(asked) == 3
    for which, magnitude in asked:
        check_even_counts(which, 14)
        np.testing.assert_allclose(abs(magnitude), 0.4, rtol=1e-6)
    assert (asked[0][0] == asked[1][0]).mean() < 0.1


def test_policies_map_over_keys_and_magnitudes():
    images, grey = unit(pixels(40, 6, 5, 3)), unit(pixels(40, 6, 5, 1))

    @jax.jit
    def run(keys, magnitudes):
        rand = lambda key, m: policies.rand_augment(key, images, operations=1, magnitude=m)
        trivial = lambda key: policies.trivial_augment(key, grey, border="edge")
        return jax.vmap(rand)(keys, magnitudes), jax.vmap(trivial)(keys)

    strong, trivial = run(jnp.stack([KEY, KEY]), jnp.asarray([0.0, 10.0]))
    np.testing.assert_array_equal(trivial[0], trivial[1])
    assert (trivial[0] != grey).any()
    unchanged = lambda changed: (changed == images).all(axis=(1, 2, 3)).mean()
    assert unchanged(strong[0]) > 0.6 > 0.4 > unchanged(strong[1])
