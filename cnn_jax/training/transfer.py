"""Fine-tuning: the variables of another run or model, taken over into a network to be trained."""

from pathlib import Path
from typing import NamedTuple

import jax
from jaxtyping import PyTree

from cnn_jax.errors import InputError
from cnn_jax.training.checkpoint import Checkpoints, abstract
from cnn_jax.training.parameter_paths import path_name
from cnn_jax.training.run_directory import single_config

HEAD = "logits"  # the last layer, the one that depends on the classes


class Transfer(NamedTuple):
    """A network's variables with what another had of them, and the names of both kinds."""

    variables: PyTree
    taken: list[str]
    new: list[str]

    def __str__(self) -> str:
        new = f"; new: {', '.join(self.new)}" if self.new else ", none is new"
        return f"{len(self.taken)} arrays taken{new}"


def transfer(variables: PyTree, source: PyTree, *, name: str = "the source") -> Transfer:
    """Returns `variables` with every array that `source` has; the head stays new if it differs.

    Args:
      variables: of the network to train, `params` and `batch_stats`; or only their shapes.
      source: of another network with the same paths.
      name: what to call the source in an error.

    Raises:
      InputError: an array outside the head is missing on one side, or of another shape.

    >>> import numpy as np
    >>> mine = {"params": {"conv": np.zeros(3), "logits": np.zeros((3, 10))}}
    >>> other = {"params": {"conv": np.ones(3), "logits": np.ones((3, 5))}}
    >>> print(transfer(mine, other))
    1 arrays taken; new: logits
    """
    here, there = _by_name(variables), _by_name(source)
    differ = [n for n in (here | there) if _shape(here, n) != _shape(there, n)]
    bad = [n for n in differ if not _is_head(n)]
    bad.sort(key=lambda n: not n.startswith("params/"))
    if bad:
        raise InputError(
            f"{name} does not fit the network: {_short(bad[0])} is {_shape(there, bad[0])} there, "
            f"not {_shape(here, bad[0])}{_more(bad)}; only the head, {HEAD}, may differ"
        )
    new = [n for n in here if _is_head(n)] if differ else []
    leaves = [mine if n in new else there[n] for n, mine in here.items()]
    variables = jax.tree.unflatten(jax.tree.structure(variables), leaves)
    return Transfer(variables, [_short(n) for n in here if n not in new], [_short(n) for n in new])


def read_shapes(workdir: Path) -> PyTree:
    """Returns the shapes of the variables that `read_variables` reads.

    Raises:
      InputError: it is no directory of a single run, or holds no checkpoint.
    """
    return _read(workdir, None)


def read_variables(workdir: Path, sharding: jax.sharding.Sharding) -> PyTree:
    """Returns the variables of a run's best checkpoint, of the last one where none is best.

    `params` are the averaged ones if the run keeps them.

    Raises:
      InputError: it is no directory of a single run, or holds no checkpoint.
    """
    return _read(workdir, sharding)


def _read(workdir: Path, sharding: jax.sharding.Sharding | None) -> PyTree:
    single_config(workdir)
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.find("best")
        saved = checkpoints.shapes(step)
        weights = "ema" if saved.get("ema") else "params"
        fields = {name: saved[name] for name in (weights, "batch_stats") if saved.get(name)}
        if sharding is not None:
            fields = checkpoints.restore_fields(step, abstract(fields, sharding))
    return {"params": fields[weights], "batch_stats": fields.get("batch_stats", {})}


def _by_name(tree: PyTree) -> dict[str, PyTree]:
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _shape(leaves: dict[str, PyTree], name: str) -> tuple[int, ...] | str:
    return tuple(leaves[name].shape) if name in leaves else "absent"


def _is_head(name: str) -> bool:
    return HEAD in name.split("/")


def _short(name: str) -> str:
    return name.partition("/")[2]


def _more(names: list[str]) -> str:
    return f", and {len(names) - 1} more differ" if len(names) > 1 else ""
