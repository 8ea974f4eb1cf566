"""Initial weights by their standard names, for kernels (*window, in, out) and matrices (in, out).

The fan-in is window × in and the fan-out window × out. The normal ones of Glorot, He and LeCun are
cut off at two standard deviations and rescaled to keep their variance, as in Keras and Flax.
"""

import difflib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.nn import initializers as init
from jax.typing import DTypeLike
from jaxtyping import Array

Initializer = Callable[..., Array]  # (key, shape, dtype) -> array


def _uniform(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    return jax.random.uniform(key, shape, dtype, minval=-0.05, maxval=0.05)


def _at_least_float32(make: Initializer) -> Initializer:
    """Wraps an initializer that needs a QR decomposition, which half precision has not."""

    def initialize(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
        wide = jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
        return make(key, shape, wide).astype(dtype)

    return initialize


_PYTORCH_DEFAULT = init.variance_scaling(1 / 3, "fan_in", "uniform")  # within ± 1 / sqrt(fan-in)


def _dirac(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    """Draws a kernel whose first outputs are the input's channels, as far as there are any."""
    *window, channels, features = shape
    copied = min(channels, features)
    drawn = _PYTORCH_DEFAULT(key, shape, dtype)
    middle = tuple(size // 2 for size in window)
    identity = (
        jnp.zeros((*shape[:-1], copied), dtype)
        .at[middle]
        .set(jnp.eye(channels, copied, dtype=dtype))
    )
    return jnp.concatenate([identity, drawn[..., copied:]], axis=-1)


INITIALIZERS: dict[str, Initializer] = {
    "zeros": init.zeros,
    "ones": init.ones,
    "normal": init.normal(0.01),  # AlexNet's deviation
    "truncated_normal": init.truncated_normal(0.01),  # cut off at 2 × 0.01
    "uniform": _uniform,  # Keras's bounds
    "glorot_uniform": init.glorot_uniform(),
    "glorot_normal": init.glorot_normal(),
    "he_uniform": init.he_uniform(),
    "he_normal": init.he_normal(),
    "lecun_uniform": init.lecun_uniform(),
    "lecun_normal": init.lecun_normal(),
    "orthogonal": _at_least_float32(init.orthogonal()),
    "dirac": _dirac,  # for convolutions: passes channels on; what outputs are left, PyTorch's
    # For convolutions with in <= out: orthogonal in the middle of the window, zero around.
    "delta_orthogonal": _at_least_float32(init.delta_orthogonal()),
}


def initializer(name: str) -> Initializer:
    """Returns the initializer of that name, a function (key, shape, dtype) -> array.

    Raises ValueError that lists the known names, and the nearest, for any other.

    >>> import jax
    >>> from cnn_jax.layers.initializers import initializer
    >>> initializer("he_normal")(jax.random.key(0), (3, 3, 16, 32), jax.numpy.float32).shape
    (3, 3, 16, 32)
    """
    if name in INITIALIZERS:
        return INITIALIZERS[name]
    near = difflib.get_close_matches(name, INITIALIZERS, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    raise ValueError(f"unknown initializer '{name}'{hint} Known: {', '.join(sorted(INITIALIZERS))}")
