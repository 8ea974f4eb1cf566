"""The fence: nothing but what XLA computes anew is changed by it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnn_jax.layers.cpu_fence import computed_once
from tests.layers.checks import lowered, random

SHAPES = [(3, 5), (2, 7, 3), (3, 4, 5, 2), (2, 1, 1, 3), (2, 3, 4, 5, 2)]


def corners(x, fence=lambda x: x):
    """Reads all four neighbours of what is computed from x."""
    y = fence(jnp.maximum(x, 0))
    n, h, w, c = x.shape
    starts = itertools.product((0, 1), repeat=2)
    cuts = [lax.slice(y, (0, i, j, 0), (n, h - 1 + i, w - 1 + j, c)) for i, j in starts]
    return jnp.concatenate(cuts, -1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8"])
def test_nothing_is_changed(shape, dtype):
    x = jnp.asarray(100 * random(*shape)).astype(dtype)
    compiled = jax.jit(lambda x: [computed_once(x), jax.vmap(computed_once)(x[None])[0]])
    for fenced in (computed_once(x), *compiled(x)):
        np.testing.assert_array_equal(fenced, x)


def test_the_gradient_passes_to_any_order():
    x = jnp.asarray(random(2, 3, 4, 2))
    cube = lambda x: (computed_once(x) ** 3).sum()
    np.testing.assert_allclose(jax.jit(jax.grad(cube))(x), 3 * x**2, rtol=1e-6)
    twice = jax.jit(jax.grad(lambda x: jax.grad(cube)(x).sum()))
    np.testing.assert_allclose(twice(x), 6 * x, rtol=1e-6)
    tangent = jax.jvp(computed_once, (x,), (2 * x,))[1]
    np.testing.assert_array_equal(tangent, 2 * x)
    np.testing.assert_array_equal(jax.grad(lambda x: cube(x) * 0 + 1)(x), 0 * x)


def test_what_several_read_is_computed_before_and_not_with_them():
    x = jnp.asarray(random(8, 32, 32, 4))
    fused = []
    for fence in (lambda x: x, computed_once):
        program = jax.jit(lambda x, fence=fence: corners(x, fence)).lower(x).compile()
        np.testing.assert_array_equal(program(x), corners(x))
        bodies = program.as_text().split("\n\n")
        fused.append(any(" maximum(" in body and " concatenate(" in body for body in bodies))
    assert fused == [True, False]


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_only_a_cpu_has_it(platform):
    x = jnp.ones((2, 4, 4, 3))
    assert "stablehlo.while" in lowered(computed_once, x)
    assert "stablehlo.while" not in lowered(computed_once, x, platform=platform)


def test_images_spread_over_devices_stay_where_they_are():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    x = jax.device_put(random(8, 4, 4, 3), spread)
    program = jax.jit(computed_once).lower(x).compile()
    assert not any(name in program.as_text() for name in ("all-gather", "all-reduce", "all-to-all"))
    assert program(x).sharding == spread
