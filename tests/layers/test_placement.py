"""Layers whose fast ways reshape or slice, with symbolic batches and with explicit shardings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnn_jax import layers
from tests.layers.checks import random

ZERO, ONE, KERNEL = jnp.zeros(4), jnp.ones(4), jnp.asarray(random(3, 3, 4, 2, seed=1))
NORMS = {
    "batch": lambda x: layers.batch_norm(x, ONE, ZERO, ZERO, ONE, train=True)[0],
    "layer": lambda x: layers.layer_norm(x, ONE, ZERO),
    "group": lambda x: layers.group_norm(x, ONE, ZERO, groups=2),
}
LAYERS = {
    **NORMS,
    "tiling pool": lambda x: layers.max_pool(x, window=2),
    "overlapping pool": lambda x: layers.max_pool(x, window=3, stride=2),
    "strided convolution": lambda x: layers.conv2d(x, KERNEL, stride=2, padding=1),
    "edges repeated": lambda x: layers.conv2d(x, KERNEL, border="edge"),
    "mirrored border": lambda x: layers.conv2d(x, KERNEL, border="reflect"),
}


def gradient(name):
    return jax.jit(jax.grad(lambda x: jnp.sin(LAYERS[name](x)).sum()))


@pytest.mark.parametrize("name", LAYERS)
def test_the_gradient_is_exported_for_any_batch(name):
    (n,) = export.symbolic_shape("n")
    shape = jax.ShapeDtypeStruct((n, 6, 6, 4), jnp.float32)
    exported = export.export(gradient(name), platforms=["cpu", "cuda"])(shape)
    x = jnp.asarray(random(4, 6, 6, 4))
    np.testing.assert_allclose(exported.call(x), gradient(name)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_the_gradient_of_explicitly_sharded_images_is_that_of_one_device(name):
    x = jnp.asarray(random(8, 6, 6, 4))
    expected = gradient(name)(x)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
        ours = gradient(name)(spread)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
