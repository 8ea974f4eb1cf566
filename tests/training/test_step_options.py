"""Options of the step that change how a gradient is taken or used."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_jax.config import Optim
from cnn_jax.models.registry import build_model
from cnn_jax.training.losses import cross_entropy, of_labels
from cnn_jax.training.optimizer import (
    make_optimizer,
    make_schedule,
    matrix_axes,
    rate_scale,
)
from cnn_jax.training.records import train_means
from cnn_jax.training.setup import Experiment
from cnn_jax.training.state import Purpose, create_train_state, key_for, model_variables
from cnn_jax.training.step import make_train_step
from tests.models.networks import make_variables

pytestmark = pytest.mark.usefixtures("optax_promotes")
KEY = key_for(0, Purpose.STEP)
RNG = np.random.default_rng(0)
BATCH = {
    "image": jnp.asarray(RNG.normal(size=(8, 8, 8, 1)), jnp.float32),
    "label": jnp.asarray(RNG.integers(0, 10, 8), jnp.int32),
}
MODEL = build_model("lenet_same", 10)


def steps(count, tx, *, ema=False, **options):
    variables = make_variables(MODEL, (8, 8, 1))
    state = create_train_state(variables, tx, ema=ema)
    step = jax.jit(make_train_step(MODEL, tx, of_labels(cross_entropy), lambda k, b: b, **options))
    states = [state]
    for _ in range(count):
        state, sums = step(state, BATCH, KEY)
        states.append(state)
    return states, sums


def assert_close(one, other, rtol=1e-5, atol=1e-7):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.fixture(scope="module")
def at_once(optax_promotes):
    return steps(2, optax.sgd(0.1, momentum=0.9))


def test_parts_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match="a batch of 8 cannot be split into 3 equal parts"):
        steps(1, optax.sgd(0.1), accumulate=3)


@pytest.mark.parametrize("parts", [2, 8])
def test_accumulation_gives_the_step_of_the_whole_batch(parts, at_once):
    whole, sums = at_once
    split, split_sums = steps(2, optax.sgd(0.1, momentum=0.9), accumulate=parts)
    assert_close(split[-1].params, whole[-1].params)
    for name in ("loss", "correct", "examples", "grad_norm"):
        np.testing.assert_allclose(split_sums[name], sums[name], rtol=1e-5)


def test_the_moving_average_follows_the_weights_and_is_what_is_evaluated():
    states, _ = steps(3, optax.sgd(0.1), ema=True, ema_decay=0.75)
    average = states[0].params
    for state in states[1:]:
        average = jax.tree.map(lambda a, p: 0.75 * a + 0.25 * p, average, state.params)
    assert_close(states[-1].ema, average)
    assert model_variables(states[-1])["params"] is states[-1].ema


def test_frozen_parameters_stay_and_the_others_train_as_before(at_once):
    optim = Optim(name="sgd", learning_rate=0.1, freeze="^conv|dense1/bias")
    states, _ = steps(1, make_optimizer(optim, make_schedule(optim, 10)))
    free, _ = at_once
    for path, leaf in jax.tree_util.tree_leaves_with_path(states[1].params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        frozen = name.startswith("conv") or name == "dense1/bias"
        source = states[0].params if frozen else free[1].params
        expected = source[name.split("/")[0]][name.split("/")[1]]
        np.testing.assert_array_equal(leaf, expected)


def test_muon_turns_convolution_kernels_into_orthogonal_matrices():
    optim = Optim(name="muon", learning_rate=1.0)
    tx = make_optimizer(optim, make_schedule(optim, 10))
    params = {"conv": {"kernel": jnp.zeros((3, 3, 8, 6)), "bias": jnp.zeros(6)}}
    grads = jax.tree.map(lambda p: jnp.asarray(RNG.normal(size=p.shape), jnp.float32), params)
    updates, _ = tx.update(grads, tx.init(params), params)
    matrix = np.asarray(updates["conv"]["kernel"]).reshape(72, 6)
    singular = np.linalg.svd(matrix, compute_uv=False)
    # Newton-Schulz stops between 0.7 and 1.2 times one common size (arXiv 2502.16982).
    assert singular.max() / singular.min() < 2
    before = np.linalg.svd(np.asarray(grads["conv"]["kernel"]).reshape(72, 6), compute_uv=False)
    assert singular.max() / singular.min() < before.max() / before.min()
    assert matrix_axes(params)["conv"]["bias"] is None


def test_the_rate_drops_where_the_loss_stays():
    optim = Optim(
        name="sgd", learning_rate=1.0, momentum=0.0, schedule="plateau",
        decay_factor=0.5, plateau_patience=2,
    )  # fmt: skip
    tx = make_optimizer(optim, make_schedule(optim, 100), steps_per_epoch=3)
    params, grads = {"w": jnp.zeros((1, 1))}, {"w": jnp.ones((1, 1))}
    state, sizes = tx.init(params), []
    for _ in range(18):
        updates, state = tx.update(grads, state, params, value=jnp.float32(1.0))
        sizes.append(-float(updates["w"][0, 0]))
    assert sizes[0] == 1.0
    assert sizes[-1] < 1.0
    drops = [i for i in range(1, 18) if sizes[i] < sizes[i - 1]]
    assert all(i % 3 in (0, 2) for i in drops)
    assert rate_scale(state) == sizes[-1] / sizes[0]
    assert rate_scale(optax.sgd(0.1).init(params)) is None


def test_rows_tell_the_rate_that_the_plateau_left():
    optim = Optim(name="sgd", learning_rate=0.4, schedule="plateau", freeze="^conv")
    schedule = make_schedule(optim, 10)
    tx = make_optimizer(optim, schedule)
    step = make_train_step(MODEL, tx, of_labels(cross_entropy), lambda key, batch: batch)

    def first(key):
        state = create_train_state(MODEL.init(key, BATCH["image"], train=False), tx)
        return step(state, BATCH, key)[1]

    assert "rate_scale" in jax.eval_shape(first, KEY)
    totals = {"loss": 2.0, "examples": 8.0, "steps": 2.0, "rate_scale": 0.5}
    experiment = object.__new__(Experiment)
    object.__setattr__(experiment, "learning_rate", schedule)
    row = train_means(experiment, 1, totals)
    assert row == {"train_loss": 0.25, "learning_rate": pytest.approx(0.1)}
