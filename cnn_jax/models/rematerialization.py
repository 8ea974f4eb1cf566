"""Gradient rematerialisation: a network's blocks are computed twice, and their insides not kept.

Chen, Xu, Zhang, Guestrin: Training Deep Nets with Sublinear Memory Cost (arXiv 1604.06174).
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import PyTree


def blocks_of(model: nn.Module, variables: PyTree, image_shape: tuple[int, int, int]) -> list[str]:
    """Returns the paths of a network's blocks; computes nothing. `variables` may be shapes."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with rematerialized() as met:
        jax.eval_shape(partial(model.apply, train=False), variables, image)
    return met


@contextlib.contextmanager
def rematerialized(on: bool = True) -> Iterator[list[str]]:
    """Rematerialises, for the networks applied in the context, each of their blocks by itself.

    A block is a module that says `is_block`: those of ResNets. In the backward pass only what goes
    in and out of blocks is at hand, and a block is computed again when its gradient's turn comes,
    so that at any time the insides of one alone are held. (Around a whole network all would be
    held again; VGG's stages saved little.) Gradients are the same.

    Gives the list of the blocks met, by their paths.
    """
    met: list[str] = []
    inside: list[nn.Module] = []

    def interceptor(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        module = context.module
        is_block = hasattr(module, "is_block") and context.method_name == "__call__"
        if not is_block or inside or module.is_initializing():
            return call(*args, **kwargs)
        met.append("/".join(module.path))

        def compute(module: nn.Module, *arrays: Any) -> Any:
            inside.append(module)
            try:
                return module(*arrays, **kwargs)
            finally:
                inside.pop()

        return nn.remat(compute)(module, *args)

    with nn.intercept_methods(interceptor) if on else contextlib.nullcontext():
        yield met
