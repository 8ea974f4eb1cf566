"""Dropout of units, of channels and of whole branches, for training.

What is kept is divided by 1 − rate, so that the mean stays and nothing is to be done at test time.
A rate may be a Python number, checked to lie in [0, 1), or a traced scalar, which must lie there.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

Rate = float | int | Float[Array, ""]
PRNGKey = Key[Array, ""] | UInt32[Array, "2"]


def dropout(key: PRNGKey, x: Float[Array, "*shape"], *, rate: Rate) -> Float[Array, "*shape"]:
    """Zeroes each element with probability `rate` (arXiv 1207.0580, scaled in training).

    Raises ValueError for a Python rate outside [0, 1).

    >>> import jax
    >>> from cnn_jax.layers.dropout import dropout
    >>> bool((dropout(jax.random.key(0), jax.numpy.ones(9), rate=0.0) == 1).all())
    True
    """
    return _drop(key, x, rate, x.shape)


def spatial_dropout(
    key: PRNGKey, x: Float[Array, "n *spatial c"], *, rate: Rate
) -> Float[Array, "n *spatial c"]:
    """Zeroes whole channels of (N, *spatial, C), each with probability `rate` (arXiv 1411.4280).

    Raises ValueError for a Python rate outside [0, 1).

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.dropout import spatial_dropout
    >>> y = spatial_dropout(jax.random.key(0), jnp.ones((2, 4, 4, 8)), rate=0.5)
    >>> sorted(set(y.ravel().tolist())), bool((y == y[:, :1, :1]).all())
    ([0.0, 2.0], True)
    """
    return _drop(key, x, rate, (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1]))


def drop_path(key: PRNGKey, x: Float[Array, "n *rest"], *, rate: Rate) -> Float[Array, "n *rest"]:
    """Zeroes whole examples, each with probability `rate`: stochastic depth (arXiv 1603.09382).

    To be put on a residual branch before it is added. Raises ValueError for a Python rate outside
    [0, 1).

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.dropout import drop_path
    >>> y = drop_path(jax.random.key(0), jnp.ones((8, 3)), rate=0.5)
    >>> sorted({tuple(example) for example in y.tolist()})
    [(0.0, 0.0, 0.0), (2.0, 2.0, 2.0)]
    """
    return _drop(key, x, rate, (x.shape[0], *(1,) * (x.ndim - 1)))


def _drop(key: PRNGKey, x: Array, rate: Rate, mask_shape: tuple[int, ...]) -> Array:
    """Keeps x / (1 − rate) where a Bernoulli mask of the given shape, broadcast, says so."""
    if isinstance(rate, (int, float)):
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be at least 0 and less than 1, not {rate}")
        if rate == 0:
            return x
    keep = 1 - rate
    mask = jax.random.bernoulli(key, keep, mask_shape)
    kept = x / jnp.asarray(keep).astype(x.dtype)
    return jnp.where(mask, kept, jnp.zeros((), x.dtype))
