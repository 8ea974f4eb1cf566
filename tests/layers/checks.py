"""What is checked of every layer: its values, and that jit, vmap and grad leave them right."""

import jax
import jax.numpy as jnp
import numpy as np


def random(*shape, seed=0):
    """Returns reproducible normal numbers in float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def distinct(*shape, seed=0):
    """Returns numbers of which no two are closer than 0.1, so that a maximum is smooth."""
    numbers = np.random.default_rng(seed).permutation(int(np.prod(shape)))
    return (0.1 * numbers - 0.05 * numbers.size).reshape(shape).astype(np.float32)


def check_layer(layer, arrays, expected, *, rtol=1e-5, atol=1e-5):
    """Checks layer(*arrays) == expected under jit and vmap, and the gradient by differences."""
    others = [0.5 * a[..., ::-1] for a in arrays]

    @jax.jit  # one program: compiling is what takes the time
    def run(arrays, others):
        stacked = [jnp.stack(pair) for pair in zip(arrays, others, strict=True)]
        return layer(*arrays), layer(*others), jax.vmap(layer)(*stacked)

    one, other, both = map(np.asarray, run(arrays, others))
    np.testing.assert_allclose(one, expected, rtol=rtol, atol=atol)
    np.testing.assert_allclose(both[0], one, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(both[1], other, rtol=1e-5, atol=1e-5)
    check_gradient(layer, arrays)


def check_gradient(layer, arrays, *, step=1e-5):
    """Checks, in float64, a weighted sum's gradient against central differences.

    Each argument is tried along a random direction of its own.
    """
    generator = np.random.default_rng(9)
    points = [np.asarray(a, np.float64) for a in arrays]
    every = tuple(range(len(points)))
    with jax.enable_x64(True):
        weights = generator.normal(size=jax.eval_shape(layer, *points).shape)
        objective = jax.jit(jax.value_and_grad(lambda *a: (layer(*a) * weights).sum(), every))
        gradients = objective(*points)[1]
        for i, gradient in enumerate(gradients):
            direction = generator.normal(size=points[i].shape)
            ahead, behind = (
                float(objective(*points[:i], points[i] + move, *points[i + 1 :])[0])
                for move in (step * direction, -step * direction)
            )
            slope = (ahead - behind) / (2 * step)
            along = (np.asarray(gradient) * direction).sum()
            np.testing.assert_allclose(along, slope, rtol=1e-5, atol=1e-6)


def derivatives(conv):
    """Returns a function to the output, both gradients, and their change along the operands."""

    def everything(x, kernel):
        gradient = jax.grad(lambda *a: jnp.sin(conv(*a)).mean(), (0, 1))
        moves = (0.1 * x[..., ::-1], 0.1 * kernel[::-1])
        return conv(x, kernel), *jax.jvp(gradient, (x, kernel), moves)

    return everything


def assert_close(ours, expected, tolerance=1e-5):
    """Checks arrays against others, within a share of the largest number."""
    leaves = zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True)
    for a, b in (map(np.asarray, pair) for pair in leaves):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        scale = np.abs(b).max(initial=1e-3)
        np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=tolerance)


def lowered(function, *arrays, platform="cpu"):
    """Returns the program of a function as text, for a platform that need not be there."""
    return jax.jit(function).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
