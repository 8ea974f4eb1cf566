"""Which part of a photograph becomes an image of the network's size: its centre, or one drawn.

A part is asked for with the photograph's (height, width) and the (height, width) that it is scaled
to, and is a box: left, top, right and bottom, in pixels of the photograph, also between them.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from cnn_jax.config import Data

Shape = tuple[float, float]
Box = tuple[float, float, float, float]
Part = Callable[[Shape, Shape], Box]

_ASPECT = 4 / 3  # of a part, at most, times the aspect of what it is scaled to; or by as much less
_TRIES = 10


def central_part(shape: Shape, target: Shape, *, share: float = 1.0) -> Box:
    """Returns the largest part of the target's aspect in the centre, or `share` of its sides.

    >>> central_part((100, 200), (32, 32)), central_part((100, 200), (32, 32), share=0.5)
    ((50.0, 0.0, 150.0, 100.0), (75.0, 25.0, 125.0, 75.0))
    """
    height, width = shape
    across = share * min(width, height * target[1] / target[0])
    down = share * min(height, width * target[0] / target[1])
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, left + across, top + down


def usual_part(data: Data) -> Part:
    """Returns the part that a config takes of each image, but for random crops."""
    return central_part if data.center_crop == 1 else partial(central_part, share=data.center_crop)


def random_part(shape: Shape, target: Shape, *, key: tuple[int, int, int], area: float) -> Box:
    """Returns a part drawn by a key of seed, epoch and the example's number.

    Its share of the photograph's area is drawn evenly from [area, 1], its aspect, relative to the
    target's, from 3/4 to 4/3, evenly on a logarithmic scale, both anew until it fits; after ten
    tries it is the largest central part whose aspect is allowed. That is the crop of
    arXiv 1409.4842, section 6, in the form in which torchvision has it.

    >>> left, top, right, bottom = random_part((100, 200), (32, 32), key=(0, 0, 7), area=0.08)
    >>> 0.08 <= (right - left) * (bottom - top) / (100 * 200) <= 1
    True
    """
    height, width = shape
    aspect = target[1] / target[0]
    x, y, *draws = _draws(key, 2 + 2 * _TRIES)
    for share, ratio in zip(draws[::2], draws[1::2], strict=True):
        pixels = (1 - (1 - area) * share) * height * width
        ratio = aspect * _ASPECT ** (2 * ratio - 1)
        across, down = math.sqrt(pixels * ratio), math.sqrt(pixels / ratio)
        if across <= width and down <= height:
            left, top = x * (width - across), y * (height - down)
            return left, top, left + across, top + down
    allowed = min(max(width / height, aspect / _ASPECT), aspect * _ASPECT)
    return central_part(shape, (1.0, allowed))


def _draws(key: tuple[int, int, int], count: int) -> list[float]:
    """Returns numbers from [0, 1), the same on every machine."""
    seed, epoch, number = key
    # The order of the epoch is drawn by the same key, from a counter that never gets this far.
    bits = np.random.Philox(key=[seed, epoch], counter=[0, 0, 1, number]).random_raw(count)
    return ((bits >> np.uint64(11)) * 2.0**-53).tolist()
