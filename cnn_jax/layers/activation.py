"""Activation functions, by the names that the field uses. Each keeps the shape and the dtype."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def identity(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x."""
    return x


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns max(x, 0); the slope at 0 is 0."""
    return jax.nn.relu(x)


def relu6(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns min(max(x, 0), 6)."""
    return jax.nn.relu6(x)


def leaky_relu(x: Float[Array, "*shape"], *, slope: float = 0.01) -> Float[Array, "*shape"]:
    """Returns x where it is positive, and slope × x elsewhere."""
    return jnp.where(x > 0, x, slope * x)


def elu(x: Float[Array, "*shape"], *, alpha: float = 1.0) -> Float[Array, "*shape"]:
    """Returns x where it is positive, and alpha (exp(x) − 1) elsewhere (arXiv 1511.07289)."""
    return jax.nn.elu(x, alpha)


def selu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the ELU scaled so that activations normalise themselves (arXiv 1706.02515)."""
    return jax.nn.selu(x)


def gelu(x: Float[Array, "*shape"], *, approximate: bool = False) -> Float[Array, "*shape"]:
    """Returns x Φ(x), Φ the normal distribution function (arXiv 1606.08415).

    `approximate` takes the paper's tanh formula, which Flax and JAX use by default; PyTorch and
    Keras use the exact form, as here.
    """
    return jax.nn.gelu(x, approximate=approximate)


def silu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x sigmoid(x), also known as swish."""
    return jax.nn.silu(x)


def mish(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x tanh(softplus(x)) (arXiv 1908.08681)."""
    return jax.nn.mish(x)


def tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the hyperbolic tangent."""
    return jnp.tanh(x)


def scaled_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns 1.7159 tanh(2x / 3), nearly 1 at 1 and −1 at −1 (LeCun et al. 1998, appendix A)."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def sigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns 1 / (1 + exp(−x))."""
    return jax.nn.sigmoid(x)


def hard_sigmoid(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns relu6(x + 3) / 6, the form of PyTorch and Keras 3 (arXiv 1905.02244)."""
    return jax.nn.hard_sigmoid(x)


def hard_swish(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x relu6(x + 3) / 6 (arXiv 1905.02244)."""
    return jax.nn.hard_swish(x)


def softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns log(1 + exp(x))."""
    return jax.nn.softplus(x)


def softmax(x: Float[Array, "*shape"], *, axis: int = -1) -> Float[Array, "*shape"]:
    """Returns exp(x) divided by its sum along an axis."""
    return jax.nn.softmax(x, axis=axis)


def log_softmax(x: Float[Array, "*shape"], *, axis: int = -1) -> Float[Array, "*shape"]:
    """Returns the logarithm of the softmax along an axis, without computing the softmax."""
    return jax.nn.log_softmax(x, axis=axis)


# The elementwise ones, by the names under which configs ask for them.
ACTIVATIONS = {
    function.__name__: function
    for function in (
        identity,
        relu,
        relu6,
        leaky_relu,
        elu,
        selu,
        gelu,
        silu,
        mish,
        tanh,
        scaled_tanh,
        sigmoid,
        hard_sigmoid,
        hard_swish,
        softplus,
    )
}
