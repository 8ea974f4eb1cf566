"""One step function on any number of devices, whose one axis is the batch: by jit or by pmap.

Under jit the step sees the whole batch, and the compiler spreads it over the mesh. Under pmap it
sees one device's share, and reduces over the axis itself.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from jaxtyping import PyTree

from cnn_jax.config import Train
from cnn_jax.errors import InputError
from cnn_jax.placement import place, replicated, sharded

AXIS = "data"


def make_mesh(devices: int = 0) -> Mesh:
    """Returns a mesh of `devices` devices (0: all), as many of each process, with the axis `AXIS`.

    Raises:
      InputError: there are fewer devices, or the processes can't have equally many.
    """
    available, processes = jax.devices(), jax.process_count()
    if devices > len(available):
        raise InputError(f"devices is {devices}, but there are {len(available)} ({available[0]})")
    count = devices or len(available)
    if count % processes:
        raise InputError(f"devices is {count}, not divisible over {processes} processes")
    of_each = [jax.local_devices(process)[: count // processes] for process in range(processes)]
    if (fewest := min(map(len, of_each)) * processes) < count:
        raise InputError(
            f"devices is {count}, {count // processes} of each of {processes} processes, and one "
            f"has fewer; set --config.devices={fewest}"
        )
    used = [device for own in of_each for device in own]
    return jax.make_mesh((count,), (AXIS,), (AxisType.Auto,), devices=used)


def device_memory(mesh: Mesh) -> list[int]:
    """Returns the bytes of each device of this process that has memory of its own."""
    found = ((device.memory_stats() or {}).get("bytes_limit") for device in mesh.local_devices)
    return [limit for limit in found if limit]


def shard_batch(batch: PyTree, mesh: Mesh) -> PyTree:
    """Inside a compiled function: splits the leading axis of every array over the devices."""
    if mesh.size == 1:
        return batch
    return jax.lax.with_sharding_constraint(batch, sharded(mesh))


def own_share(batch: PyTree, mesh: Mesh) -> PyTree:
    """Inside a pmapped function: returns this device's share of every array's leading axis."""

    def part(x: jax.Array) -> jax.Array:
        size = len(x) // mesh.size
        return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(AXIS) * size, size)

    return jax.tree.map(part, batch)


def check_batch_size(batch_size: int, mesh: Mesh, *, parts: int = 1) -> None:
    """Raises InputError unless the devices get equal shares of each of `parts` of the batch."""
    step = mesh.size * parts
    if batch_size % step:
        below = batch_size - batch_size % step
        near = f"{below} or {below + step}" if below else str(step)
        in_parts = f" in {parts} parts" if parts > 1 else ""
        raise InputError(
            f"data.batch_size is {batch_size}, not divisible{in_parts} over {mesh.size} devices; "
            f"take {near}, or set --config.devices"
        )


def compile_step(
    step: Callable,
    example: tuple,
    *,
    mesh: Mesh,
    way: str = "jit",
    donate: bool = False,
    options: dict[str, bool | str] | None = None,
) -> Callable:
    """Returns `step` compiled for arguments shaped and placed like `example`; results replicated.

    Compiled ahead of the first call, so that the caller can say that it compiles, and for how long.

    Args:
      step: a function of arrays; with pmap its results must be the same on every device.
      example: its arguments, every one replicated.
      mesh: the devices.
      way: "jit" or "pmap".
      donate: hand the first argument's memory over to the result.
      options: see `compiler_options`.
    """
    if way == "pmap":
        return _compile_pmap(step, example, options, mesh=mesh, donate=donate)
    jitted = jax.jit(step, donate_argnums=(0,) if donate else (), out_shardings=replicated(mesh))
    return jitted.lower(*example).compile(options)


def compiler_options(train: Train, platform: str) -> dict[str, bool | str]:
    """Returns XLA's options for `train.deterministic` and `train.remat`.

    Deterministic, every run gives the same bits, on a GPU too: no kernel is chosen by timing it,
    none whose sums come in no fixed order; a scatter becomes a slow one. To rematerialise saves
    memory only if things are computed as late as can be, which on a CPU isn't XLA's default.

    These are options of a program and not XLA_FLAGS, which are read once a process.
    """
    options: dict[str, bool | str] = {}
    if train.deterministic:
        options["xla_gpu_deterministic_ops"] = True
    if train.remat and platform == "cpu":
        options["xla_cpu_scheduler_type"] = "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
    return options


def once_options() -> dict[str, int]:
    """Returns XLA's options for a program that runs once: quick to compile rather than to run."""
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}


def _compile_pmap(
    step: Callable, example: tuple, options: dict | None, *, mesh: Mesh, donate: bool
) -> Callable:
    """pmap wants one argument that differs between the devices: here their numbers.

    In several processes it also wants arrays to be lowered for, and takes no shapes.
    """
    numbers = place(np.arange(mesh.size), sharded(mesh))

    def array(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.Array | jax.ShapeDtypeStruct:
        if isinstance(leaf, jax.Array) or jax.process_count() == 1:
            return leaf
        return place(np.zeros(leaf.shape, leaf.dtype), replicated(mesh))

    mapped = jax.pmap(
        lambda number, *arguments: step(*arguments),
        AXIS,
        in_axes=(0, *(None for _ in example)),
        out_axes=None,
        devices=mesh.devices.flat,
        axis_size=mesh.size,
        donate_argnums=(1,) if donate else (),
    )
    compiled = mapped.lower(numbers, *jax.tree.map(array, example)).compile(options)
    return lambda *arguments: compiled(numbers, *arguments)
