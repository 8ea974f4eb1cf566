"""What JAX says of the device it computes on."""

from collections.abc import Callable

import jax

from cnn_jax.cpus import usable_cpus
from experiments.contenders.task import Contender, Started


def contender(start: Callable[[], Started]) -> Contender:
    """Returns a contender that computes with JAX on its first device."""
    return Contender(start, device_kind(), usable_cpus(), peak_memory)


def device_kind() -> str:
    """Returns what JAX calls its first device."""
    return jax.devices()[0].device_kind


def peak_memory() -> int | None:
    """Returns the most bytes that were in use on the device; None on a CPU."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
