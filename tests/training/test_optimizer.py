"""Each optimizer against its formula in NumPy, with the standard parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_jax.config import OPTIMIZERS, Optim
from cnn_jax.training.optimizer import decay_mask, make_optimizer, make_schedule, unread
from experiments import configs

pytestmark = pytest.mark.usefixtures("optax_promotes")
RATE, STEPS = 0.1, 4
RNG = np.random.default_rng(0)
PARAMS = {"kernel": RNG.normal(size=(3, 2)), "bias": RNG.normal(size=2)}
GRADS = [{name: RNG.normal(size=p.shape) for name, p in PARAMS.items()} for _ in range(STEPS)]


def _run(optim, grads=GRADS, params=PARAMS):
    tx = make_optimizer(optim, make_schedule(optim, len(grads)))
    params, grads = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), (params, grads))
    state, update = tx.init(params), jax.jit(tx.update)
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_a_factor_that_no_plateau_could_have_is_none_of_the_other_schedules_business():
    optim = Optim(name="sgd", learning_rate=RATE, momentum=0.0, decay_factor=1.0)
    assert _run(optim)["bias"].shape == (2,)


def _loop(formula, *, coupled=0.0):
    """Returns the parameters after formula(p, g, memory, t) for every step, array by array."""
    result = {}
    for name, p in PARAMS.items():
        memory = {}
        for t, grads in enumerate(GRADS, start=1):
            decay = coupled * p if name == "kernel" else 0
            p = formula(name, p, grads[name] + decay, memory, t)
        result[name] = p
    return result


def _sgd(name, p, g, memory, t):
    return p - RATE * g


def _momentum(name, p, g, memory, t):
    memory["m"] = 0.9 * memory.get("m", 0) + g
    return p - RATE * memory["m"]


def _nesterov(name, p, g, memory, t):
    memory["m"] = 0.9 * memory.get("m", 0) + g
    return p - RATE * (g + 0.9 * memory["m"])


def _rmsprop(name, p, g, memory, t):
    """Keras's: epsilon below the root, no momentum."""
    memory["v"] = 0.9 * memory.get("v", 0) + 0.1 * g**2
    return p - RATE * g / np.sqrt(memory["v"] + 1e-7)


def _adam_direction(g, memory, t):
    memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
    memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g**2
    m, v = memory["m"] / (1 - 0.9**t), memory["v"] / (1 - 0.999**t)
    return m / (np.sqrt(v) + 1e-8)


def _adam(name, p, g, memory, t):
    return p - RATE * _adam_direction(g, memory, t)


def _adamw(name, p, g, memory, t):
    decay = 0.3 * p if name == "kernel" else 0
    return p - RATE * (_adam_direction(g, memory, t) + decay)


@pytest.mark.parametrize(
    ("fields", "formula", "coupled"),
    [
        ({"name": "sgd", "momentum": 0.0}, _sgd, 0.0),
        ({"name": "sgd", "momentum": 0.9}, _momentum, 0.0),
        ({"name": "sgd", "momentum": 0.9, "nesterov": True}, _nesterov, 0.0),
        ({"name": "sgd", "momentum": 0.9, "weight_decay": 0.3}, _momentum, 0.3),
        ({"name": "rmsprop", "momentum": 0.0, "epsilon": 1e-7}, _rmsprop, 0.0),
        ({"name": "adam", "epsilon": 1e-8}, _adam, 0.0),
        ({"name": "adam", "epsilon": 1e-8, "weight_decay": 0.3}, _adam, 0.3),
        ({"name": "adamw", "epsilon": 1e-8, "weight_decay": 0.3}, _adamw, 0.0),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_an_optimizer_follows_its_formula(fields, formula, coupled):
    params = _run(Optim(learning_rate=RATE, **fields))
    for name, expected in _loop(formula, coupled=coupled).items():
        np.testing.assert_allclose(params[name], expected, rtol=2e-5, err_msg=name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_shrinks_kernels_alone(name):
    zero = jax.tree.map(np.zeros_like, GRADS)
    params = _run(Optim(name=name, learning_rate=0.01, weight_decay=0.1), zero)
    np.testing.assert_allclose(params["bias"], PARAMS["bias"], rtol=1e-6)
    assert np.linalg.norm(params["kernel"]) < 0.99995 * np.linalg.norm(PARAMS["kernel"])
    still = _run(Optim(name=name, learning_rate=0.01, weight_decay=0.0), zero)
    np.testing.assert_allclose(still["kernel"], PARAMS["kernel"], rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill(name):
    optim = Optim(name=name, learning_rate=0.02)
    tx = make_optimizer(optim, make_schedule(optim, 30))
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), PARAMS)
    state = tx.init(params)

    def loss(params):
        return sum(jnp.sum(jnp.square(p)) for p in params.values())

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    before = loss(params)
    for _ in range(30):
        params, state = step(params, state)
    assert loss(params) < 0.9 * before


def _orthogonalized(matrix, steps):
    """Muon's iteration, on (rows, columns)."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def test_muon_sgd_follows_its_formulas():
    """Muon with three iterations on convolutions, SGD on the rest, both with Nesterov momentum."""
    shapes = {"conv": (3, 3, 2, 4), "dense": (4, 3), "bias": (3,)}
    params = {name: RNG.normal(size=shape) for name, shape in shapes.items()}
    grads = [{name: RNG.normal(size=p.shape) for name, p in params.items()} for _ in range(STEPS)]
    optim = Optim(name="muon_sgd", learning_rate=RATE, weight_decay=0.2, hold_norms=True)
    found = _run(optim, grads, params)
    memory = {name: np.zeros_like(p) for name, p in params.items()}
    for t, g in enumerate(grads, start=1):
        for name, momentum in (("dense", 0.85), ("bias", 0.85)):
            direction = g[name] + (0.2 * params[name] if name == "dense" else 0)
            memory[name] = momentum * memory[name] + direction
            params[name] = params[name] - RATE * (direction + momentum * memory[name])
        memory["conv"] = 0.6 * memory["conv"] + 0.4 * g["conv"]
        # Optax corrects what an average from zero on lacks.
        ahead = 0.6 * memory["conv"] / (1 - 0.6 ** (t + 1)) + 0.4 * g["conv"] / (1 - 0.6**t)
        turn = _orthogonalized(ahead.reshape(18, 4).T, 3).T.reshape(shapes["conv"])
        held = params["conv"] * 2 / np.linalg.norm(params["conv"])  # √C_out
        params["conv"] = held - RATE * turn
    for name, expected in params.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_held_norms_are_those_that_a_step_starts_from(name):
    params = {"conv": 5 * RNG.normal(size=(3, 3, 2, 9)), "bias": np.ones(9)}
    zero = [jax.tree.map(np.zeros_like, params)]
    after = _run(Optim(name=name, learning_rate=0.1, hold_norms=True), zero, params)
    np.testing.assert_allclose(np.linalg.norm(after["conv"]), 3, rtol=1e-5)
    np.testing.assert_array_equal(after["bias"], params["bias"])


def test_the_mask_spares_whatever_has_one_axis():
    params = {
        "conv": {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(2)},
        "norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)},
    }
    assert decay_mask(params) == {
        "conv": {"kernel": True, "bias": False},
        "norm": {"scale": False, "bias": False},
    }


def test_clipping_is_by_the_global_norm():
    grads = [{"kernel": np.full((3, 2), 3.0), "bias": np.full(2, 4.0)}]
    norm = np.sqrt(6 * 9 + 2 * 16)
    optim = Optim(name="sgd", learning_rate=RATE, momentum=0.0, clip_norm=1.0)
    clipped, spared = _run(optim, grads), _run(Optim(**{**vars(optim), "clip_norm": 100.0}), grads)
    expected = {name: p - RATE * grads[0][name] / norm for name, p in PARAMS.items()}
    for name, p in PARAMS.items():
        np.testing.assert_allclose(clipped[name], expected[name], rtol=1e-5)
        np.testing.assert_allclose(spared[name], p - RATE * grads[0][name], rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "rates"),
    [
        ({"schedule": "constant"}, {0: 1, 50: 1, 99: 1}),
        ({"schedule": "linear"}, {0: 1, 25: 0.75, 50: 0.5, 100: 0}),
        ({"schedule": "cosine"}, {0: 1, 50: 0.5, 75: 0.5 - np.sqrt(0.125), 100: 0}),
        (
            {"schedule": "step", "milestones": (0.5, 0.75)},
            {0: 1, 49: 1, 50: 0.1, 74: 0.1, 75: 0.01, 99: 0.01},
        ),
        ({"schedule": "constant", "warmup": 0.1}, {0: 0, 5: 0.5, 10: 1, 99: 1}),
        ({"schedule": "linear", "warmup": 0.2}, {0: 0, 10: 0.5, 20: 1, 60: 0.5, 100: 0}),
        ({"schedule": "cosine", "warmup": 0.2}, {0: 0, 10: 0.5, 20: 1, 60: 0.5, 100: 0}),
        (
            {"schedule": "step", "milestones": (0.5,), "warmup": 0.2},
            {0: 0, 20: 1, 49: 1, 50: 0.1, 99: 0.1},
        ),
    ],
    ids=str,
)
def test_schedules_start_turn_and_end_where_they_should(fields, rates):
    optim = Optim(learning_rate=2.0, decay_factor=0.1, **fields)
    schedule = make_schedule(optim, 100)
    found = [float(schedule(step)) for step in rates]
    np.testing.assert_allclose(found, 2 * np.array(list(rates.values())), atol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "step"])
@pytest.mark.parametrize("steps", [1, 2])
def test_schedules_of_the_shortest_runs_are_finite(schedule, steps):
    optim = Optim(schedule=schedule, warmup=0.5, milestones=(0.3, 0.6))
    rates = [float(make_schedule(optim, steps)(step)) for step in range(steps + 1)]
    assert np.isfinite(rates).all()
    assert max(rates) <= np.float32(optim.learning_rate)


def test_milestones_on_one_step_both_count():
    optim = Optim(learning_rate=1.0, schedule="step", milestones=(0.5, 0.6), decay_factor=0.1)
    assert float(make_schedule(optim, 2)(1)) == pytest.approx(0.01)


ALL_SET = {
    "momentum": 0.5,
    "nesterov": True,
    "decay_rate": 0.5,
    "beta1": 0.5,
    "epsilon": 1e-3,
    "weight_decay": 0.1,
    "clip_norm": 1.0,
    "milestones": (0.5,),
    "decay_factor": 0.5,
    "plateau_patience": 3,
    "freeze": "conv",
    "rates": "logits=2",
    "hold_norms": True,
}
SCHEDULED = ["milestones", "decay_factor", "plateau_patience"]


@pytest.mark.parametrize(
    ("name", "schedule", "expected"),
    [
        ("sgd", "constant", ["decay_rate", "beta1", "epsilon", *SCHEDULED]),
        ("rmsprop", "cosine", ["beta1", *SCHEDULED]),
        ("adamw", "step", ["momentum", "nesterov", "decay_rate", "plateau_patience"]),
        ("lamb", "plateau", ["momentum", "nesterov", "decay_rate", "milestones"]),
        ("muon", "one_cycle", ["nesterov", "decay_rate", "epsilon", *SCHEDULED]),
    ],
)
def test_fields_without_effect_are_known(name, schedule, expected):
    found = unread(Optim(name=name, schedule=schedule, **ALL_SET))
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("name", "momentum", "expected"),
    [
        ("sgd", None, []),
        ("sgd", 0.0, ["nesterov"]),
        ("rmsprop", None, ["nesterov"]),
        ("rmsprop", 0.5, []),
        ("lars", 0.0, ["nesterov"]),
    ],
)
def test_nesterov_is_of_a_momentum(name, momentum, expected):
    assert unread(Optim(name=name, momentum=momentum, nesterov=True)) == expected


@pytest.mark.parametrize("name", configs.names())
def test_no_config_sets_what_its_optimizer_does_not_read(name):
    assert unread(configs.load(name).optim) == []
