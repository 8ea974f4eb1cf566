"""Blocks that are computed again: the same gradients from less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.models.registry import build_model, variable_shapes
from cnn_jax.models.rematerialization import blocks_of, rematerialized
from tests.models.networks import make_images, make_variables, small_network, small_shape


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("resnet18", 8), ("resnet50", 16), ("wrn28_10", 12), ("lenet", 0)],
)
def test_the_blocks_of_networks(name, blocks):
    model, shape = small_network(name), small_shape(name)
    assert len(blocks_of(model, variable_shapes(model, shape), shape)) == blocks


def _gradients(model, variables, images, on):
    """Returns the gradients and statistics, and how many bytes are kept for the backward pass."""

    def loss(params):
        options = {
            "train": True,
            "mutable": ["batch_stats"],
            "rngs": {"dropout": jax.random.key(3)},
        }
        with rematerialized(on):
            logits, updated = model.apply({**variables, "params": params}, images, **options)
        return jnp.square(logits).mean(), updated

    _, pull, _ = jax.eval_shape(
        lambda params: jax.vjp(loss, params, has_aux=True), variables["params"]
    )
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))
    return kept, jax.jit(jax.grad(loss, has_aux=True))(variables["params"])


def test_gradients_and_statistics_are_the_same_and_less_is_kept():
    options = {"depth": 8, "width": 0.5, "drop_path": 0.3}
    model, shape = build_model("resnet20_cifar", 3, **options), (32, 32, 3)
    variables, images = make_variables(model, shape), make_images(shape, count=16)
    (memory, kept), (less, again) = (
        _gradients(model, variables, images, on) for on in (False, True)
    )
    for a, b in zip(*map(jax.tree.leaves, (kept, again)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * np.abs(a).max())
    assert less < 0.4 * memory, (less, memory)
