import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from sklearn.metrics import log_loss

from cnn_jax.training.losses import binary_cross_entropy, cross_entropy

LABELS = np.array([0, 3, 2, 1, 3], np.int32)


@pytest.fixture(scope="module")
def logits():
    return 3 * jax.random.normal(jax.random.key(0), (5, 4))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_optax_with_smooth_labels(logits, smoothing):
    targets = optax.smooth_labels(jax.nn.one_hot(LABELS, 4), smoothing)
    expected = optax.softmax_cross_entropy(logits, targets)
    losses = jax.jit(cross_entropy, static_argnames="label_smoothing")(
        logits, jnp.asarray(LABELS), label_smoothing=smoothing
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_cross_entropy_is_minus_log_p_in_numpy(logits):
    p = np.exp(np.asarray(logits, np.float64))
    p /= p.sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(5), LABELS])
    np.testing.assert_allclose(cross_entropy(logits, jnp.asarray(LABELS)), expected, rtol=1e-5)


def test_the_gradient_is_p_minus_target(logits):
    labels = jnp.asarray(LABELS)
    grads = jax.grad(lambda x: cross_entropy(x, labels).sum())(logits)
    expected = jax.nn.softmax(logits) - jax.nn.one_hot(labels, 4)
    np.testing.assert_allclose(grads, expected, atol=1e-6)

    def smoothed(x):
        return cross_entropy(jnp.asarray(x), labels, label_smoothing=0.2)

    check_grads(smoothed, (logits,), order=1)


def test_huge_logits_give_finite_losses_and_gradients():
    logits, labels = jnp.array([[1e4, -1e4], [1e4, -1e4]]), jnp.array([0, 1])
    np.testing.assert_allclose(cross_entropy(logits, labels), [0, 2e4])
    grads = jax.grad(lambda x: cross_entropy(x, labels).sum())(logits)
    np.testing.assert_allclose(grads, [[0, 0], [1, -1]])


def test_bfloat16_logits_are_summed_in_float32(logits):
    low = logits.astype(jnp.bfloat16)
    losses = cross_entropy(low, jnp.asarray(LABELS))
    assert losses.dtype == jnp.float32
    expected = cross_entropy(low.astype(jnp.float32), jnp.asarray(LABELS))
    np.testing.assert_array_equal(losses, expected)


def test_shares_of_classes_weigh_their_losses(logits):
    shares = jax.nn.softmax(jnp.flip(logits, axis=1))
    per_class = [cross_entropy(logits, jnp.full(5, c), label_smoothing=0.1) for c in range(4)]
    expected = sum(shares[:, c] * per_class[c] for c in range(4))
    np.testing.assert_allclose(
        cross_entropy(logits, shares, label_smoothing=0.1), expected, rtol=1e-5
    )


def test_vmap_over_runs(logits):
    stacked, labels = jnp.stack([logits, -logits]), jnp.asarray(LABELS)
    losses = jax.vmap(cross_entropy, in_axes=(0, None))(stacked, labels)
    np.testing.assert_allclose(losses[1], cross_entropy(-logits, labels), rtol=1e-6)


WEIGHTS = jnp.array([0.5, 1.0, 2.0, 4.0])


def test_class_weights_are_sample_weights_in_scikit_learn(logits):
    losses = cross_entropy(logits, jnp.asarray(LABELS), class_weights=WEIGHTS)
    weights = np.asarray(WEIGHTS)[LABELS]
    p = jax.nn.softmax(logits)
    expected = log_loss(LABELS, p, sample_weight=weights, labels=range(4))
    np.testing.assert_allclose(losses.sum() / weights.sum(), expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_of_smoothed_shares_weigh_each_term(logits, smoothing):
    shares = np.asarray(jax.nn.softmax(jnp.flip(logits, axis=1)), np.float64)
    targets = (1 - smoothing) * shares + smoothing / 4
    expected = -(np.asarray(WEIGHTS) * targets * jax.nn.log_softmax(logits)).sum(axis=1)
    options = {"label_smoothing": smoothing, "class_weights": WEIGHTS}
    losses = cross_entropy(logits, jnp.asarray(shares, jnp.float32), **options)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


SEVERAL = np.array([[0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]], np.uint8)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_binary_cross_entropy_in_numpy(logits, smoothing, weights):
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    targets = SEVERAL * (1 - smoothing) + smoothing / 2
    there = 1 if weights is None else np.asarray(weights)
    expected = -(there * targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean(axis=1)

    @jax.jit
    def loss(logits):
        options = {"label_smoothing": smoothing, "class_weights": weights}
        return binary_cross_entropy(logits, jnp.asarray(SEVERAL), **options)

    np.testing.assert_allclose(loss(logits), expected, rtol=1e-5)
    gradient = jax.grad(lambda x: loss(x).sum())(logits)
    np.testing.assert_allclose(
        gradient, (p * (there * targets + 1 - targets) - there * targets) / 4, atol=1e-6
    )


def test_of_classes_binary_cross_entropy_tells_each_from_the_rest(logits):
    one_hot = np.eye(4, dtype=np.uint8)[LABELS]
    expected = [log_loss(row, p) for row, p in zip(one_hot, jax.nn.sigmoid(logits), strict=True)]
    losses = binary_cross_entropy(logits, jnp.asarray(LABELS))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    mixed = binary_cross_entropy(logits, jnp.asarray(0.25 * one_hot + 0.1875, jnp.float32))
    assert jnp.isfinite(mixed).all()


def test_huge_logits_of_sigmoids_give_finite_losses_and_gradients():
    logits, labels = jnp.array([[1e4, -1e4], [1e4, -1e4]]), jnp.array([[1, 0], [0, 1]], jnp.uint8)
    np.testing.assert_allclose(binary_cross_entropy(logits, labels), [0, 1e4])
    gradient = jax.grad(lambda x: binary_cross_entropy(x, labels).sum())(logits)
    np.testing.assert_allclose(gradient, [[0, 0], [0.5, -0.5]])


def test_no_gradient_of_a_loss_scatters(logits):
    """A scatter of floats has no fixed order on a GPU."""
    for loss in (cross_entropy, binary_cross_entropy):
        gradient = jax.jit(jax.grad(lambda x, loss=loss: loss(x, jnp.asarray(LABELS)).sum()))
        assert "scatter" not in gradient.lower(logits).as_text()
