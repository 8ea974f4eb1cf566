"""Parameters picked by their path: frozen, or with a rate of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_jax.config import Optim
from cnn_jax.errors import InputError
from cnn_jax.training.optimizer import make_optimizer, make_schedule
from cnn_jax.training.parameter_paths import check_paths

PARAMS = {
    "conv1": {"kernel": jnp.ones((3, 3, 2, 4)), "bias": jnp.ones(4)},
    "logits": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)},
}


def _after(steps, *, learning_rate=0.1, **fields):
    """Returns the parameters after steps along gradients of one everywhere."""
    optim = Optim(name="sgd", learning_rate=learning_rate, **fields)
    tx = make_optimizer(optim, make_schedule(optim, 10))
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
    return params


def _first(params):
    return {
        layer: {name: float(p.ravel()[0]) for name, p in of.items()} for layer, of in params.items()
    }


def test_the_first_pattern_found_multiplies_the_rate():
    moved = _first(_after(1, momentum=0.0, rates="logits=0.5; bias$ = 2"))
    assert moved["conv1"] == pytest.approx({"kernel": 0.9, "bias": 0.8})
    assert moved["logits"] == pytest.approx({"kernel": 0.95, "bias": 0.95})


def test_a_multiple_is_that_of_the_learning_rate_momentum_included():
    multiplied = _after(3, momentum=0.9, nesterov=True, rates=".=10")
    tenfold = _after(3, momentum=0.9, nesterov=True, learning_rate=1.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), multiplied, tenfold)


def test_rates_and_freezing_go_together():
    moved = _first(_after(2, momentum=0.0, rates="bias$=3", freeze="^conv1/bias"))
    assert moved["conv1"] == pytest.approx({"kernel": 0.8, "bias": 1.0})
    assert moved["logits"] == pytest.approx({"kernel": 0.8, "bias": 0.4})


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ("logits", "it must be PATTERN=NUMBER"),
        ("logits=fast", "it must be PATTERN=NUMBER"),
        ("logits=-1", "no number below 0"),
        ("logits=nan", "it must be PATTERN=NUMBER"),
        ("=2", "optim.rates has '', no regular expression"),
        ("conv(=2", r"optim.rates has 'conv\(', no regular expression"),
        (
            "conv=2; head=3",
            "optim.rates has 'head', which finds none of the parameters: conv1/bias",
        ),
    ],
)
def test_rates_that_say_nothing_are_refused(rates, message):
    with pytest.raises(InputError, match=message):
        check_paths(Optim(rates=rates), PARAMS)


@pytest.mark.parametrize(("pattern", "found"), [("convolution", "none"), (".", "all")])
def test_a_freeze_pattern_that_finds_nothing_or_all_is_refused(pattern, found):
    with pytest.raises(InputError, match=f"is '{pattern}', which finds {found} of the parameters"):
        check_paths(Optim(freeze=pattern), PARAMS)


def test_patterns_that_find_some_are_taken():
    check_paths(Optim(), PARAMS)
    check_paths(Optim(freeze="^conv", rates="logits=2; bias=0"), PARAMS)


def test_a_broken_freeze_pattern_is_named():
    with pytest.raises(InputError, match=r"optim.freeze has 'conv\(', no regular expression"):
        make_optimizer(Optim(freeze="conv("), make_schedule(Optim(), 10))
