"""Mixup and cutmix: each example is joined with its neighbour in the batch, and so is its label.

The batch should be shuffled, as training batches are. Labels come out as shares of each class,
(N, classes).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from cnn_jax.data.augment.draws import Images, PRNGKey, Strength, per_image
from cnn_jax.data.augment.erasing import box_mask

Labels = Int[Array, " n"] | UInt8[Array, "n classes"] | Float[Array, "n classes"]
Mixed = tuple[Images, Float[Array, "n classes"]]


def soft_labels(labels: Labels, *, num_classes: int) -> Float[Array, "n {num_classes}"]:
    """Returns labels as shares of each class; those that are shares, or zeros and ones, stay.

    >>> from cnn_jax.data.augment.mixing import soft_labels
    >>> soft_labels(jax.numpy.array([1, 0]), num_classes=2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    if labels.ndim == 1:
        return jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    return labels.astype(jnp.float32) if labels.dtype == jnp.uint8 else labels


def random_mixup(
    key: PRNGKey, images: Images, labels: Labels, *, strength: Strength, num_classes: int
) -> Mixed:
    """Returns λ · example + (1 − λ) · neighbour, and so for the labels (arXiv 1710.09412).

    Each example draws its own λ from Beta(strength, strength); at strength 0 it is one.

    >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.arange(4)
    >>> options = {"strength": 0.2, "num_classes": 10}
    >>> change = jax.jit(random_mixup, static_argnames="num_classes")
    >>> mixed, shares = change(jax.random.key(0), images, labels, **options)
    >>> mixed.shape, shares.shape, shares.sum(-1).round(3).tolist()
    ((4, 8, 8, 3), (4, 10), [1.0, 1.0, 1.0, 1.0])
    """
    share = _beta(key, len(images), strength)
    weight = per_image(share, images)
    mixed = weight * images + (1 - weight) * _neighbours(images)
    return mixed, _mix_labels(labels, share, num_classes)


def random_cutmix(
    key: PRNGKey, images: Images, labels: Labels, *, strength: Strength, num_classes: int
) -> Mixed:
    """Returns each example with a box of its neighbour pasted in (arXiv 1905.04899).

    The box would take 1 − λ of the image, λ from Beta(strength, strength), but is cut off at the
    outline; a label's share is its image's share of the pixels.

    >>> images, labels = jnp.zeros((2, 8, 8, 1)).at[0].set(1.0), jnp.array([0, 1])
    >>> options = {"strength": 1.0, "num_classes": 2}
    >>> change = jax.jit(random_cutmix, static_argnames="num_classes")
    >>> pasted, shares = change(jax.random.key(0), images, labels, **options)
    >>> bool(jnp.allclose(shares[:, 0], pasted.mean((1, 2, 3))))
    True
    """
    n, h, w, _ = images.shape
    share_key, centre_key = jax.random.split(key)
    side = jnp.sqrt(1 - _beta(share_key, n, strength))
    height, width = ((side * size).astype(jnp.int32) for size in (h, w))
    y, x = jax.random.randint(centre_key, (2, n), 0, jnp.asarray([[h], [w]]), jnp.int32)
    mask = box_mask(y - height // 2, x - width // 2, height, width, shape=(h, w))
    share = 1 - mask.mean(axis=(1, 2, 3))
    return jnp.where(mask, _neighbours(images), images), _mix_labels(labels, share, num_classes)


def random_mix(
    key: PRNGKey,
    images: Images,
    labels: Labels,
    *,
    mixup: Strength,
    cutmix: Strength,
    num_classes: int,
) -> Mixed:
    """Returns each example after either mixup or cutmix, of the strengths given: a coin decides.

    >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.arange(4)
    >>> options = {"mixup": 0.2, "cutmix": 1.0, "num_classes": 10}
    >>> change = jax.jit(random_mix, static_argnames="num_classes")
    >>> mixed, shares = change(jax.random.key(0), images, labels, **options)
    >>> mixed.shape, shares.shape
    ((4, 8, 8, 3), (4, 10))
    """
    coin_key, mixup_key, cutmix_key = jax.random.split(key, 3)
    cut: Bool[Array, " n"] = jax.random.bernoulli(coin_key, 0.5, (len(images),))
    a = random_mixup(mixup_key, images, labels, strength=mixup, num_classes=num_classes)
    b = random_cutmix(cutmix_key, images, labels, strength=cutmix, num_classes=num_classes)
    return jnp.where(cut[:, None, None, None], b[0], a[0]), jnp.where(cut[:, None], b[1], a[1])


def _beta(key: PRNGKey, count: int, strength: Strength) -> Float[Array, " {count}"]:
    strength = jnp.asarray(strength, jnp.float32)
    some = jnp.where(strength > 0, strength, jnp.ones_like(strength))
    drawn = jax.random.beta(key, some, some, (count,), jnp.float32)
    return jnp.where(strength > 0, drawn, jnp.ones_like(drawn))


def _neighbours(array: Float[Array, "n *rest"]) -> Float[Array, "n *rest"]:
    """Returns for each example the one before it; a roll moves little between devices."""
    return jnp.roll(array, 1, axis=0)


def _mix_labels(
    labels: Labels, share: Float[Array, " n"], num_classes: int
) -> Float[Array, "n classes"]:
    soft = soft_labels(labels, num_classes=num_classes)
    share = share.astype(soft.dtype)[:, None]
    return share * soft + (1 - share) * _neighbours(soft)
