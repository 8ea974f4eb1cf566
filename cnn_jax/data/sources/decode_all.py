"""Every image of a part decoded once: kept, or only what must be known of one left on disk."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from cnn_jax.cpus import usable_cpus
from cnn_jax.data.on_disk import channel_sums

Result = TypeVar("Result")


def room_for(
    count: int, shape: tuple[int, int, int], feed: str
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Returns where to put what is kept of `count` images, and what makes that of the images.

    The images themselves, or with feed "streaming" the sums that their moments are made of.
    """
    if feed == "streaming":
        return np.empty((count, 2, shape[-1]), np.int64), channel_sums
    return np.empty((count, *shape), np.uint8), lambda images: images


def in_threads(
    function: Callable[[int], Result], items: range, *, threads: int = 0
) -> Iterator[Result]:
    """Yields the results in order; the first exception ends the work. Decoders free the GIL.

    `threads` is by default the number of processors, 32 at most.
    """
    pool = ThreadPoolExecutor(threads or min(32, usable_cpus()))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)
