"""Blocks that are computed again: the same gradients from less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.config import Train
from cnn_jax.models.registry import build_model
from cnn_jax.models.rematerialization import blocks_of, rematerialized
from cnn_jax.training.parallel import compiler_options
from tests.models.networks import make_images, make_variables, small_network, small_shape

OPTIONS = compiler_options(Train(remat=True), "cpu")


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("resnet18", 8), ("resnet50", 16), ("wrn28_10", 12), ("lenet", 0)],
)
def test_the_blocks_of_networks(name, blocks):
    model, shape = small_network(name), small_shape(name)
    assert len(blocks_of(model, make_variables(model, shape), shape)) == blocks


def _compiled(model, variables, images, on):
    def loss(params, stats, images, key):
        options = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": key}}
        with rematerialized(on):
            logits, updated = model.apply({"params": params, **stats}, images, **options)
        return jnp.square(logits).mean(), updated

    stats = {name: tree for name, tree in variables.items() if name != "params"}
    arguments = (variables["params"], stats, images, jax.random.key(3))
    compiled = jax.jit(jax.grad(loss, has_aux=True)).lower(*arguments).compile(OPTIONS)
    return compiled.memory_analysis().temp_size_in_bytes, compiled(*arguments)


def test_gradients_and_statistics_are_the_same_and_memory_is_less():
    options = {"depth": 14, "width": 0.5, "drop_path": 0.3}
    model, shape = build_model("resnet20_cifar", 3, **options), (32, 32, 3)
    variables, images = make_variables(model, shape), make_images(shape, count=16)
    (memory, kept), (less, again) = (
        _compiled(model, variables, images, on) for on in (False, True)
    )
    for a, b in zip(*map(jax.tree.leaves, (kept, again)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * float(jnp.abs(a).max()))
    assert less < 0.9 * memory, (less, memory)
