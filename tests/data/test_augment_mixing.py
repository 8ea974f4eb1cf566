import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from cnn_jax.data.augment import erasing, mixing
from tests.data.image_checks import pixels, unit

KEY = jax.random.key(11)
N, CLASSES = 400, 10
LABELS = jnp.arange(N, dtype=jnp.int32) % CLASSES
# Each image is as bright as its class, so that its mean tells what its label should be.
BRIGHT = jnp.broadcast_to((LABELS / (CLASSES - 1))[:, None, None, None], (N, 8, 10, 2))


def brightness(labels):
    return np.asarray(labels) @ np.linspace(0, 1, CLASSES)


@pytest.mark.parametrize("mix", [mixing.random_mixup, mixing.random_cutmix])
def test_labels_follow_the_pixels(mix):
    @jax.jit
    def run(keys, images, labels, strength):
        one = lambda key: mix(key, images, labels, strength=strength, num_classes=CLASSES)
        return jax.vmap(one)(keys)

    keys = jax.random.split(KEY, 2)
    images, labels = run(keys, BRIGHT, LABELS, 1.0)
    assert images.shape == (2, *BRIGHT.shape) and labels.shape == (2, N, CLASSES)
    assert (images[0] != images[1]).any()
    np.testing.assert_allclose(labels.sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(images.mean(axis=(2, 3, 4)), brightness(labels), atol=1e-5)
    partner = np.asarray(labels[0] > 0) & ~np.eye(CLASSES, dtype=bool)[LABELS]
    which, classes = np.nonzero(partner)
    np.testing.assert_array_equal(classes, LABELS[which - 1])
    assert len(which) > 0.8 * N
    nothing, unmixed = run(keys, BRIGHT, LABELS, 0.0)  # traced, so that a population may differ
    np.testing.assert_array_equal(nothing[0], BRIGHT)
    np.testing.assert_array_equal(unmixed[0], jax.nn.one_hot(LABELS, CLASSES))


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_of_mixup_have_the_beta_distribution(alpha):
    labels = jnp.arange(N, dtype=jnp.int32)
    run = jax.jit(lambda x, y: mixing.random_mixup(KEY, x, y, strength=alpha, num_classes=N))
    _, soft = run(BRIGHT, labels)
    shares = np.diagonal(soft).astype(np.float64)
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_cutmix_pastes_one_box_of_the_neighbour():
    images = unit(pixels(N, 8, 10, 2))
    run = jax.jit(lambda x: mixing.random_cutmix(KEY, x, LABELS, strength=1.0, num_classes=CLASSES))
    mixed, soft = map(np.asarray, run(images))
    before = np.roll(images, 1, axis=0)
    pasted = np.asarray((mixed != images).any(axis=-1))
    for i, mask in enumerate(pasted):
        np.testing.assert_array_equal(mixed[i][mask], before[i][mask])
        if mask.any():
            np.testing.assert_array_equal(mask[ndimage.find_objects(mask.astype(int))[0]], True)
    share = soft[np.arange(N), LABELS]
    np.testing.assert_allclose(pasted.mean(axis=(1, 2)), 1 - share, atol=1e-6)
    # Were no box cut off, half would be pasted; boxes in the middle are cut off least.
    assert 0.25 < pasted.mean() < 0.5
    assert pasted[:, 3:5, 4:6].mean() > 1.5 * pasted[:, ::7, ::9].mean()


def test_with_both_a_coin_decides_for_each_image():
    run = jax.jit(
        lambda x: mixing.random_mix(KEY, x, LABELS, mixup=1.0, cutmix=1.0, num_classes=CLASSES)
    )
    images, labels = run(BRIGHT)
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), brightness(labels), atol=1e-5)
    blended = np.isclose(images, images[:, :1, :1, :1]).all(axis=(1, 2, 3))
    whole = np.asarray(labels).max(axis=-1) == 1  # cutmix with an empty or a full box
    assert abs((blended & ~whole).mean() - 0.5) < 4 * 0.5 / np.sqrt(N)


def test_shares_are_mixed_again():
    soft = jnp.full((N, CLASSES), 1 / CLASSES)
    np.testing.assert_array_equal(mixing.soft_labels(soft, num_classes=CLASSES), soft)
    _, mixed = mixing.random_mixup(KEY, BRIGHT, soft, strength=1.0, num_classes=CLASSES)
    np.testing.assert_allclose(mixed, soft, rtol=1e-5)


def test_cutout_paints_over_a_square_around_any_pixel():
    images = 0.9 * unit(pixels(3000, 7, 9, 2)) + 0.01
    images = jnp.where(images == 0.5, 0.6, images)
    cut = jax.jit(lambda x: erasing.random_cutout(KEY, x, size=4))(images)
    gone = np.asarray((cut == 0.5).any(axis=-1))
    np.testing.assert_array_equal(np.asarray(cut)[gone], 0.5)
    np.testing.assert_array_equal(np.asarray(cut)[~gone], np.asarray(images)[~gone])
    # Each centre is as likely: a pixel goes as often as centres around it lie inside.
    expected = np.zeros((7, 9))
    for y in range(7):
        for x in range(9):
            expected[max(y - 2, 0) : y + 2, max(x - 2, 0) : x + 2] += 1 / 63
    deviation = np.sqrt(expected * (1 - expected) / 3000)
    assert (abs(gone.mean(axis=0) - expected) < 4 * deviation).all()


def test_erasing_fills_boxes_of_the_right_size_with_noise():
    n, h, w = 1500, 30, 20
    images = jnp.full((n, h, w, 2), 2.0)  # no noise is as bright
    run = jax.jit(lambda x, p: erasing.random_erasing(KEY, x, probability=p))
    erased = np.asarray(run(images, 0.6))
    gone = erased[..., 0] != 2
    some = gone.any(axis=(1, 2))
    assert abs(some.mean() - 0.6) < 4 * np.sqrt(0.6 * 0.4 / n)
    boxes = [ndimage.find_objects(mask.astype(int))[0] for mask in gone[some]]
    assert all(mask[box].all() for mask, box in zip(gone[some], boxes, strict=True))
    area = gone[some].mean(axis=(1, 2))
    assert abs(area.mean() - 0.175) < 0.01 and area.min() < 0.05 and area.max() > 0.3
    sides = np.array([[axis.stop - axis.start for axis in box] for box in boxes])
    ratio = np.log(sides[:, 1] / sides[:, 0])
    assert abs(ratio).max() < np.log(10 / 3) + 0.3 and abs(ratio).max() > 1
    noise = erased[gone]
    assert abs(noise.mean() - 0.5) < 0.01 and noise.min() < 0.01 and noise.max() > 0.99
    np.testing.assert_array_equal(run(images, 0.0), images)
