"""A fence against XLA for CPUs, which fuses what is cheap into whatever reads it.

A sum of a few shifted arrays is cheap, and a pooling is, but patches or the transforms of
Winograd's method read them dozens of times over, and each time they are computed anew. XLA removes
optimization barriers before it fuses. But it does not fuse into a loop, and must first compute the
array that a loop updates in place.
"""

from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, UInt

from cnn_jax.layers.placement import is_placed


def computed_once(
    x: Float[Array, "n *spatial c"] | UInt[Array, "n *spatial c"],
) -> Float[Array, "n *spatial c"] | UInt[Array, "n *spatial c"]:
    """Returns the array unchanged; on a CPU it is computed once, however many read it.

    Its gradient is, too. Arrays with explicit shardings, those mapped by `shard_map` and those of
    symbolic shape are left to XLA.

    >>> import jax.numpy as jnp
    >>> from cnn_jax.layers.cpu_fence import computed_once
    >>> computed_once(jnp.ones((2, 3, 1))).sum().item()
    6.0
    """
    symbolic = not all(isinstance(n, int) for n in x.shape)
    return x if symbolic or is_placed(x) else _computed_once_p.bind(x)


def _rewritten(x: Array) -> Array:
    """Returns x after a loop of two turns, each of which writes a few numbers to where they are.

    They are those of one pixel, of all images: no axis that is spread over devices is cut.
    """
    place = min(x.ndim - 2, 2)
    sizes = (*x.shape[: -1 - place], *(1,) * place, x.shape[-1])

    def turn(i: Array, x: Array) -> Array:
        starts = lambda i: (*(0,) * (x.ndim - 2), i, 0)
        # XLA does not know that i is i & 1.
        return lax.dynamic_update_slice(x, lax.dynamic_slice(x, starts(i), sizes), starts(i & 1))

    return lax.fori_loop(0, 2, turn, x)


_computed_once_p = Primitive("computed_once")
_computed_once_p.def_impl(lambda x: x)
_computed_once_p.def_abstract_eval(lambda x: x)
ad.deflinear(_computed_once_p, lambda dy: [dy if type(dy) is ad.Zero else computed_once(dy)])
batching.defvectorized(_computed_once_p)
mlir.register_lowering(_computed_once_p, mlir.lower_fun(lambda x: x, multiple_results=False))
mlir.register_lowering(
    _computed_once_p, mlir.lower_fun(_rewritten, multiple_results=False), platform="cpu"
)
