"""A network whose first layer is computed from training images, through a whole run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.config import Config, Data, Model, Optim, Synthetic, Train, with_fields
from cnn_jax.data.normalization import normalize, to_unit
from cnn_jax.layers import patch_whitening
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.setup import build_experiment, initial_state
from tests.training.tiny import saved_state

pytestmark = pytest.mark.usefixtures("optax_promotes")
CONFIG = Config(
    name="small_airbench",
    data=Data(
        name="synthetic",
        synthetic=Synthetic((28, 28, 3), classes=3, train_examples=60, test_examples=12),
        batch_size=20,
        eval_batch_size=12,
        validation_fraction=0.0,
        test_mirror=True,
    ),
    model=Model(name="airbench", width=1 / 16),
    optim=Optim(
        name="muon_sgd",
        learning_rate=0.1,
        rates="bias$=2; ^logits=0.1",
        schedule="linear",
        hold_norms=True,
        freeze="^whiten/kernel",
    ),
    train=Train(steps=3, log_every=3, ema_decay=0.5, pictures=False),
    devices=1,
)


def test_a_run_starts_from_the_whitened_layer_and_keeps_it(tmp_path):
    experiment = build_experiment(CONFIG)
    pixels = jnp.asarray(experiment.dataset.train.images)
    images = normalize(to_unit(pixels), experiment.normalization)
    expected = np.abs(patch_whitening(images))  # signs are free
    start = initial_state(experiment).params
    np.testing.assert_allclose(np.abs(start["whiten"]["kernel"]), expected, rtol=1e-3, atol=1e-4)
    train_and_evaluate(CONFIG, tmp_path)
    _, state = saved_state(tmp_path, CONFIG)
    np.testing.assert_array_equal(state.params["whiten"]["kernel"], start["whiten"]["kernel"])
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, start)
    moved["whiten"].pop("kernel")
    assert all(jax.tree.leaves(moved))


def test_the_whitened_layer_is_the_same_for_every_seed():
    configs = (with_fields(CONFIG, {"seed": seed}) for seed in (0, 1))
    one, other = (initial_state(build_experiment(config)).params for config in configs)
    np.testing.assert_array_equal(one["whiten"]["kernel"], other["whiten"]["kernel"])
    assert (one["logits"]["kernel"] != other["logits"]["kernel"]).any()
