"""One network and one step in several frameworks, side by side, for `experiments.benchmark`.

All contenders train with softmax cross-entropy and SGD with momentum 0.9, without augmentation, on
the same made-up images, and each computes what its users would have it compute. The peers' networks
are built from our network's own list of operations, so that nothing differs but the framework; a
peer with another number of parameters is refused.

A contender is a module with `build(task) -> Contender`; `worker` runs it in a process of its own.
"""

import dataclasses
from collections.abc import Iterable
from importlib.util import find_spec

from cnn_jax.errors import InputError

OURS, CEILING = "cnn_jax", "matrix product"


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a contender is found, and what it needs."""

    module: str  # of this package
    packages: tuple[str, ...]  # as they are imported
    distributions: tuple[str, ...]  # whose versions are reported
    environment: tuple[tuple[str, str], ...] = ()


_JAX = ("jax", "jaxlib")
_TORCH = Entry("pytorch", ("torch",), ("torch",))


def _keras(backend: str, distributions: tuple[str, ...]) -> Entry:
    packages = ("keras", backend)
    environment = (("KERAS_BACKEND", backend),)
    return Entry("keras_network", packages, ("keras", *distributions), environment)


PEERS = {
    "torch": _TORCH,
    "torch-compile": _TORCH,
    "keras-tensorflow": _keras("tensorflow", ("tensorflow", "tensorflow-cpu")),
    "keras-jax": _keras("jax", _JAX),
    "flax": Entry("stock_flax", ("flax",), (*_JAX, "flax", "optax")),
}
CONTENDERS = PEERS | {
    OURS: Entry("ours", ("cnn_jax",), (*_JAX, "flax", "optax", "cnn_jax")),
    CEILING: Entry("ceiling", ("jax",), _JAX),
}


def require(packages: Iterable[str]) -> None:
    """Raises InputError, with the cure, unless all of the packages are installed."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        named = " and ".join(missing)
        raise InputError(f"{named} not installed: python -m pip install -e '.[peers]'")
