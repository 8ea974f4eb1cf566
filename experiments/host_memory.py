"""Memory that a program frees, kept for the next.

XLA takes what a program needs anew each time it runs. Of glibc it gets blocks as large as a
network's activations from the system, and back they go at once; so in every step all their pages
are mapped and cleared again, which takes a large network on a CPU up to a third of its time.
"""

import ctypes
import sys

import jax

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """From here on this process keeps what it frees, if its C library is glibc.

    Call it before JAX computes. Only the main thread's heap takes blocks of any size, so programs
    on a CPU run on the thread that calls them, too, and it waits for them: that costs a step about
    0.2 ms, in which the next was prepared. See `run_side_by_side`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt and mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1):
        jax.config.update("jax_cpu_enable_async_dispatch", False)


def run_side_by_side() -> None:
    """From here on programs on a CPU don't wait for one another; large ones' memory isn't kept."""
    jax.config.update("jax_cpu_enable_async_dispatch", True)
