"""One step by hand: gradient, update, statistics, randomness, precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from cnn_jax.models.modules import BatchNorm, Dropout, Flatten
from cnn_jax.training.losses import cross_entropy, of_labels
from cnn_jax.training.state import Purpose, create_train_state, key_for, model_variables
from cnn_jax.training.step import make_eval_step, make_train_step
from tests.training.tiny import Tiny

KEY = key_for(0, Purpose.STEP)
SHAPE, CLASSES = (2, 2, 1), 3
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(6, *SHAPE)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)
BATCH = {"image": jnp.asarray(IMAGES), "label": jnp.asarray(LABELS)}


class Linear(nn.Module):
    """Logits are pixels times a kernel."""

    @nn.compact
    def __call__(self, x, *, train):
        x = x.reshape(len(x), -1)
        kernel = self.param("kernel", nn.initializers.normal(), (x.shape[1], CLASSES))
        return x @ kernel.astype(x.dtype)


class Normed(nn.Module):
    """Logits are the first pixels after batch norm."""

    @nn.compact
    def __call__(self, x, *, train):
        return Flatten()(BatchNorm(name="norm")(x, train=train))[:, :CLASSES]


class Dropped(nn.Module):
    """Logits are a parameter for all, half of them dropped."""

    @nn.compact
    def __call__(self, x, *, train):
        logits = self.param("logits", nn.initializers.ones, (64,))
        return Dropout(0.5)(jnp.broadcast_to(logits, (len(x), 64)), train=train)


def _unchanged(key, batch):
    return batch


CROSS_ENTROPY = of_labels(cross_entropy)


def _setup(model, *, loss_fn=CROSS_ENTROPY, augment_fn=_unchanged, tx=None, **options):
    tx = tx or optax.sgd(0.5)
    variables = model.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), train=False)
    state = create_train_state(variables, tx)
    return state, jax.jit(make_train_step(model, tx, loss_fn, augment_fn, **options))


def _by_hand(kernel):
    """Returns losses, correct and gradient of softmax regression in NumPy."""
    x = IMAGES.reshape(6, -1).astype(np.float64)
    p = np.exp(x @ kernel)
    p /= p.sum(axis=1, keepdims=True)
    losses = -np.log(p[np.arange(6), LABELS])
    return losses, p.argmax(axis=1) == LABELS, x.T @ (p - np.eye(CLASSES)[LABELS]) / 6


def test_a_step_of_softmax_regression_by_hand():
    state, step = _setup(Linear())
    kernel = np.asarray(state.params["kernel"], np.float64)
    losses, correct, gradient = _by_hand(kernel)
    after, sums = step(state, BATCH, KEY)
    np.testing.assert_allclose(after.params["kernel"], kernel - 0.5 * gradient, rtol=1e-5)
    np.testing.assert_allclose(sums["loss"], losses.sum(), rtol=1e-5)
    assert int(sums["correct"]) == correct.sum()
    assert (int(sums["examples"]), int(sums["steps"])) == (6, 1)
    np.testing.assert_allclose(sums["grad_norm"], np.linalg.norm(gradient), rtol=1e-5)
    assert int(after.step) == 1
    assert after.batch_stats == {}
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_running_statistics_take_in_the_batch():
    state, step = _setup(Normed())
    after, _ = step(state, BATCH, KEY)
    norm = after.batch_stats["norm"]
    np.testing.assert_allclose(norm["mean"], 0.1 * IMAGES.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(norm["var"], 0.9 + 0.1 * IMAGES.var(axis=(0, 1, 2)), rtol=1e-5)


def test_every_step_draws_anew_from_one_key():
    def loss_fn(logits, batch):
        return logits @ jnp.exp2(jnp.arange(64.0) - 32)  # tells masks apart

    state, step = _setup(Dropped(), loss_fn=loss_fn, tx=optax.sgd(0.0))
    losses = []
    for number in (0, 1, 2, 1):
        _, sums = step(state.replace(step=jnp.int32(number)), BATCH, KEY)
        losses.append(float(sums["loss"]))
    assert len(set(losses)) == 3
    assert losses[1] == losses[3]
    _, other = step(state, BATCH, key_for(1, Purpose.STEP))
    assert float(other["loss"]) != losses[0]


def test_the_augmentation_sees_a_key_of_its_own_every_step():
    def augment_fn(key, batch):
        return {**batch, "image": batch["image"] * 0 + jax.random.uniform(key)}

    state, step = _setup(Linear(), augment_fn=augment_fn, tx=optax.sgd(0.0))
    losses = [
        float(step(state.replace(step=jnp.int32(number)), BATCH, KEY)[1]["loss"])
        for number in (0, 1, 0)
    ]
    assert losses[0] == losses[2] != losses[1]


def test_bfloat16_computes_in_it_and_keeps_float32():
    state, step = _setup(Tiny(CLASSES), tx=optax.sgd(0.5, momentum=0.9), dtype="bfloat16")
    after, sums = step(state, BATCH, KEY)
    floats = [leaf for leaf in jax.tree.leaves(after) if leaf.dtype != jnp.int32]
    assert {leaf.dtype for leaf in floats} == {jnp.dtype("float32")}
    assert sums["loss"].dtype == jnp.float32
    _, in_float32 = _setup(Tiny(CLASSES), tx=optax.sgd(0.5, momentum=0.9))
    expected = in_float32(state, BATCH, KEY)[1]["loss"]
    assert float(sums["loss"]) != float(expected)
    np.testing.assert_allclose(sums["loss"], expected, rtol=0.05)
    assert "bf16" in str(jax.make_jaxpr(step)(state, BATCH, KEY))


def test_evaluation_counts_what_the_mask_lets_through():
    model = Linear()
    state, _ = _setup(model)
    losses, correct, _ = _by_hand(np.asarray(state.params["kernel"], np.float64))
    mask = np.array([True, False, True, True, False, True])
    step = jax.jit(make_eval_step(model, of_labels(cross_entropy), lambda images: images * 2))
    half = {"image": BATCH["image"] / 2, "label": BATCH["label"], "mask": jnp.asarray(mask)}
    sums, logits = step(model_variables(state), half)
    np.testing.assert_allclose(sums["loss"], losses[mask].sum(), rtol=1e-5)
    assert (int(sums["correct"]), int(sums["examples"])) == (correct[mask].sum(), 4)
    expected = IMAGES.reshape(6, -1) @ np.asarray(state.params["kernel"])
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-7)


def test_evaluation_uses_the_running_statistics():
    model = Normed()
    state, _ = _setup(model)
    stats = {"norm": {"mean": jnp.array([1.0]), "var": jnp.array([4.0])}}
    variables = {**model_variables(state), "batch_stats": stats}
    step = make_eval_step(model, of_labels(cross_entropy), lambda images: images)
    _, logits = step(variables, {**BATCH, "mask": jnp.ones(6, bool)})
    expected = (IMAGES.reshape(6, -1)[:, :CLASSES] - 1) / np.sqrt(4 + 1e-5)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_the_logits_of_views_are_averaged():
    model = Linear()
    state, _ = _setup(model)
    variables = model_variables(state)

    def prepare(images):
        return jnp.stack([images, images * 3], axis=1).reshape(-1, *SHAPE)

    loss_fn, batch = of_labels(cross_entropy), {**BATCH, "mask": jnp.ones(6, bool)}
    step = make_eval_step(model, loss_fn, prepare, view_weights=(0.25, 0.75))
    plain = make_eval_step(model, loss_fn, lambda images: images * 2.5)
    (sums, logits), (expected_sums, expected) = step(variables, batch), plain(variables, batch)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sums["loss"], expected_sums["loss"], rtol=1e-5)
