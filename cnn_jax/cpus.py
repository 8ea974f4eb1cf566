"""How many CPUs this process may use: in a slot of a cluster not all that the machine has."""

import os


def usable_cpus() -> int:
    """Returns how many CPUs this process may use.

    >>> import os
    >>> from cnn_jax.cpus import usable_cpus
    >>> 1 <= usable_cpus() <= os.cpu_count()
    True
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
