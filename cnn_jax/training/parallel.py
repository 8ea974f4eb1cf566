"""One step function on any number of devices: jit over a mesh whose one axis is the batch."""

from collections.abc import Callable

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from cnn_jax.errors import InputError


def make_mesh(devices: int = 0) -> Mesh:
    """Returns a mesh of the first `devices` devices (0: all) with the single axis "data".

    Raises:
      InputError: there are fewer devices.
    """
    available = jax.devices()
    if devices > len(available):
        raise InputError(f"devices is {devices}, but there are {len(available)} ({available[0]})")
    used = available[: devices or len(available)]
    return jax.make_mesh((len(used),), ("data",), (AxisType.Auto,), devices=used)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that puts a whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def shard_batch(batch: PyTree, mesh: Mesh) -> PyTree:
    """Inside a compiled function: splits the leading axis of every array over the devices."""
    if mesh.size == 1:
        return batch
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec("data")))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises InputError unless the devices get equal shares of the batch."""
    if batch_size % mesh.size:
        below = batch_size - batch_size % mesh.size
        near = f"{below} or {below + mesh.size}" if below else str(mesh.size)
        raise InputError(
            f"data.batch_size is {batch_size}, not divisible over {mesh.size} devices; "
            f"take {near}, or set --config.devices"
        )


def compile_step(step: Callable, example: tuple, *, mesh: Mesh, donate: bool = False) -> Callable:
    """Returns `step` compiled for arguments shaped and placed like `example`; results replicated.

    Compiled ahead of the first call, so that the caller can say that it compiles, and for how long.
    `donate` hands the first argument's memory over to the result.
    """
    jitted = jax.jit(step, donate_argnums=(0,) if donate else (), out_shardings=replicated(mesh))
    return jitted.lower(*example).compile()
