import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from cnn_jax.config import NORMALIZATIONS
from cnn_jax.data import normalization
from cnn_jax.data.normalization import Normalization, fit_normalization, normalize, to_unit
from cnn_jax.errors import InputError
from tests.data.image_checks import check_change, pixels, unit

# Neighbouring pixels are alike, as in photographs, so that there is something to whiten.
TRAIN = (pixels(200, 3, 4, 3) // 3 + pixels(200, 1, 1, 3, seed=1) // 2).astype(np.uint8)
EPSILON = 1e-2


def expected(kind, train, images):
    """Returns what NumPy makes of images, in double precision."""
    train, images = (x.astype(np.float64) / 255 for x in (train, images))
    if kind == "unit":
        return images
    if kind == "imagenet":
        return (images - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    if kind == "zca":
        flat = train.reshape(len(train), -1)
        covariance = np.cov(flat, rowvar=False, bias=True)
        matrix = linalg.inv(linalg.sqrtm(covariance + EPSILON * np.eye(len(covariance))))
        return ((images - train.mean(axis=0)).reshape(len(images), -1) @ matrix).reshape(
            images.shape
        )
    axis = 0 if kind == "per_pixel" else (0, 1, 2)
    centred = images - train.mean(axis=axis)
    return centred if kind == "mean" else centred / train.std(axis=axis)


@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_every_kind_against_numpy(kind, monkeypatch):
    monkeypatch.setattr(normalization, "_CHUNK", 7 * TRAIN[0].size)  # the last part is smaller
    test = pixels(5, 3, 4, 3, seed=2)
    constants = fit_normalization(TRAIN, kind)
    change = lambda images: normalize(images, constants)
    check_change(change, unit(test), expected(kind, TRAIN, test), atol=1e-4)
    half = normalize(unit(test).astype(jnp.bfloat16), constants)
    assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize("kind", ["mean_std", "per_pixel", "zca"])
def test_the_training_split_comes_out_centred_and_even(kind):
    constants = fit_normalization(TRAIN, kind)
    run = jax.jit(lambda images: normalize(images, constants))
    whitened = np.asarray(run(to_unit(jnp.asarray(TRAIN))), np.float64)
    axis = (0, 1, 2) if kind == "mean_std" else 0
    np.testing.assert_allclose(whitened.mean(axis=axis), 0, atol=1e-5)
    if kind == "zca":
        values = TRAIN.reshape(200, -1) / 255
        variances = np.linalg.eigvalsh(np.cov(values, rowvar=False, bias=True))
        after = np.linalg.eigvalsh(np.cov(whitened.reshape(200, -1), rowvar=False, bias=True))
        np.testing.assert_allclose(after, variances / (variances + EPSILON), rtol=1e-4)
    else:
        np.testing.assert_allclose(whitened.std(axis=axis), 1, rtol=1e-4)


@pytest.mark.parametrize("kind", ["mean_std", "per_pixel", "zca"])
def test_what_hardly_varies_is_not_blown_up(kind):
    train = np.full((100, 2, 2, 1), 40, np.uint8)
    train[0] = 41
    bright = normalize(jnp.ones((1, 2, 2, 1)), fit_normalization(train, kind))
    limit = 1 / np.sqrt(EPSILON) if kind == "zca" else 1
    assert 0.8 < float(bright.max()) < limit


def test_constants_are_exact_and_the_same_for_a_grey_set():
    train = np.stack([np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)])
    constants = fit_normalization(train, "mean_std")
    np.testing.assert_array_equal(constants.mean, np.full((1, 1, 3), 0.5, np.float32))
    np.testing.assert_array_equal(constants.std, np.full((1, 1, 3), 0.5, np.float32))


def test_what_a_kind_is_not_for_is_refused():
    with pytest.raises(InputError, match=r"these have 3,267. Take per_pixel or mean_std"):
        fit_normalization(np.zeros((2, 33, 33, 3), np.uint8), "zca")
    with pytest.raises(InputError, match=r"'zka'; did you mean 'zca'\?"):
        fit_normalization(TRAIN, "zka")
    with pytest.raises(InputError, match="imagenet is for 3 channels, not 1"):
        fit_normalization(TRAIN[..., :1], "imagenet")


@pytest.mark.parametrize("kind", ["mean_std", "zca"])
def test_what_is_saved_is_what_is_loaded(kind, tmp_path):
    path = tmp_path / "normalization.npz"
    saved = fit_normalization(TRAIN, kind)
    saved.save(path)
    saved.save(path)  # a second start of the same run
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    loaded = Normalization.load(path)
    assert loaded.kind == kind and (loaded.whitening is None) == (kind != "zca")
    for name, value in vars(saved).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)


@pytest.mark.parametrize("kind", ["mean_std", "per_pixel", "zca"])
def test_constants_of_other_images_are_refused(kind, tmp_path):
    path, shape = tmp_path / "normalization.npz", TRAIN.shape[1:]
    fitted = fit_normalization(TRAIN, kind)
    fitted.save(path)
    assert Normalization.load(path, shape).kind == kind
    for other in [(*shape[:2], shape[2] + 1), *([(2, 2, shape[2])] if kind != "mean_std" else [])]:
        with pytest.raises(InputError, match=f"which is not for images of {other[0]} x {other[1]}"):
            Normalization.load(path, other)
    for mean, std in ((np.nan, 1), (0, 0)):
        changed = {"mean": fitted.mean * 0 + mean, "std": fitted.std * std}
        dataclasses.replace(fitted, **changed).save(path)
        with pytest.raises(InputError, match="damaged or of another run"):
            Normalization.load(path, shape)


def test_a_file_that_holds_none_is_refused(tmp_path):
    path = tmp_path / "normalization.npz"
    with pytest.raises(InputError, match="can't be read: No such file"):
        Normalization.load(path)
    fit_normalization(TRAIN, "unit").save(path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"normalization.npz holds no normalization"):
            Normalization.load(path)
    for place in range(whole.index(b"PK\x01\x02"), len(whole)):  # the zip's directory
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with contextlib.suppress(InputError):
            Normalization.load(path)
    np.savez(path, images=TRAIN)
    with pytest.raises(InputError, match="holds no normalization"):
        Normalization.load(path)
