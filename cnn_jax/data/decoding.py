"""Image files decoded by threads ahead of whatever takes them, in their order."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from cnn_jax.cpus import usable_cpus
from cnn_jax.data.sources.image_file import BadImage, read_bytes
from cnn_jax.data.sources.image_folder import image_paths
from cnn_jax.errors import InputError

Decode = Callable[[bytes], UInt8[np.ndarray, "h w c"]]

_AHEAD = 4  # batches that are read before they are asked for


class Decoded(NamedTuple):
    """An image file's pixels, or why there are none."""

    path: Path
    pixels: UInt8[np.ndarray, "h w c"] | None
    problem: str = ""


def find_images(names: Iterable[str]) -> Iterator[Path]:
    """Yields image files by their names; of a folder, all below it that should be images by theirs.

    "-" stands for the lines of stdin, which are read when they are asked for. A folder without
    images is given out itself, to be told of as unreadable.

    Raises:
      InputError: a name is empty, as that of a variable that is not set.
    """
    for name in names:
        if name == "-":
            # As bytes, since names of files need not be text.
            lines = (os.fsdecode(line).strip() for line in sys.stdin.buffer)
            yield from find_images(line for line in lines if line not in "-")
        elif not name:
            raise InputError("the name of an image is empty; give a file, a folder or -")
        elif Path(name).is_dir():
            yield from sorted(image_paths(Path(name))) or [Path(name)]
        else:
            yield Path(name)


def decoded_batches(
    paths: Iterable[Path], decode: Decode, *, size: int, threads: int = 0
) -> Iterator[list[Decoded]]:
    """Yields every file of `paths` in order, up to `size` at a time.

    A batch is given out before it is full where no more paths are known yet, so that they may come
    from a pipe.

    Args:
      paths: read as far ahead as there is work for the threads.
      decode: decode(content) gives an image's pixels or raises BadImage.
      size: of a batch, at most.
      threads: that decode; 0: one for each CPU. Decoders free the interpreter's lock.
    """
    queue: Queue[Future | None] = Queue(_AHEAD * size)
    pool = ThreadPoolExecutor(threads or min(32, usable_cpus()))
    Thread(target=_submit, args=(paths, decode, pool, queue), daemon=True).start()
    try:
        while (first := queue.get()) is not None:
            batch = [first]
            while len(batch) < size and (following := _next(queue)):
                batch.append(following)
            yield [future.result() for future in batch]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _next(queue: Queue) -> Future | None:
    """Returns the queue's next item if there is one now; leaves the end mark where it is."""
    try:
        item = queue.get_nowait()
    except Empty:
        return None
    if item is None:
        queue.put(None)
    return item


def _submit(paths: Iterable[Path], decode: Decode, pool: ThreadPoolExecutor, queue: Queue) -> None:
    try:
        for path in paths:
            queue.put(pool.submit(_read, path, decode))
    except Exception as error:  # told where the batches are taken
        failed: Future = Future()
        failed.set_exception(error)
        queue.put(failed)
    queue.put(None)


def _read(path: Path, decode: Decode) -> Decoded:
    try:
        if path.is_dir():
            raise BadImage("is a folder that holds no image files")
        return Decoded(path, decode(read_bytes(path)))
    except BadImage as error:
        return Decoded(path, None, str(error))
