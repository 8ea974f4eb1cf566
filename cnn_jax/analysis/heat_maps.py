"""Numbers as colours: maps of a layer, maps over an image, kernels, and boxes around what is meant.

Everything returns uint8 RGB images, to be put on a sheet by `figures.contact_sheet`.
"""

from fractions import Fraction

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from cnn_jax.analysis.figures import font_of_size
from cnn_jax.analysis.receptive_field import Box

RGB = UInt8[np.ndarray, "n h w 3"]
RGBImage = UInt8[np.ndarray, "_ _ 3"]
Maps = Float[np.ndarray, "n h w"]

_OUTLINE = (255, 64, 129)


def colored(maps: Maps, *, shared: bool = True, brightest: float = 99.5) -> RGB:
    """Returns maps in colours: viridis from zero where none is negative, else blue–white–red.

    White is zero. The scale ends at a percentile of the magnitudes, of all maps together where it
    is `shared`, or of each; what exceeds it is cut off.
    """
    limit = _limit(maps, brightest, shared=shared)
    if (maps < 0).any():
        return _paint((maps / limit + 1) / 2, "RdBu_r")
    return _paint(maps / limit, "viridis")


def overlay(images: Float[np.ndarray, "n h w c"], maps: Maps) -> RGB:
    """Returns images, dimmed and grey, with the positive part of a map glowing on each.

    Each map has its own scale, from zero to the 99th percentile of its values.
    """
    heat = np.clip(np.maximum(maps, 0) / _limit(np.maximum(maps, 0), 99.0), 0, 1)
    grey = np.repeat(images.mean(-1, keepdims=True), 3, -1)
    share = np.sqrt(heat)[..., None] * 0.85
    glowing = (1 - share) * 0.6 * grey + share * (_paint(heat, "inferno") / 255)
    return _to_bytes(glowing)


def kernels_as_images(kernel: Float[np.ndarray, "h w c d"]) -> RGB:
    """Returns the first layer's filters as images, all on one scale on which grey is zero.

    Filters over three channels are shown in colour, those over others as the mean over the
    channels.
    """
    filters = np.moveaxis(np.asarray(kernel, np.float32), -1, 0)
    if filters.shape[-1] != 3:
        filters = np.repeat(filters.mean(-1, keepdims=True), 3, -1)
    return _to_bytes(0.5 + filters / (2 * max(float(np.abs(filters).max()), 1e-12)))


def boxed(image: RGBImage, box: Box, *, side: int) -> RGBImage:
    """Returns an image enlarged to about `side` pixels with a box drawn around a part of it.

    Where the box reaches beyond the image, grey is put around it to show that, though no more than
    half of the image.
    """
    height, width, _ = image.shape
    far = max(height, width) // 2
    box = Box(
        *(max(-far, at) for at in box[:2]), min(box[2], height + far), min(box[3], width + far)
    )
    around = [(max(0, -box.top), max(0, box.bottom - height))]
    around += [(max(0, -box.left), max(0, box.right - width))]
    larger = np.pad(image, [*around, (0, 0)], constant_values=211)
    scale = max(1, side // max(larger.shape[:2]))
    picture = Image.fromarray(larger.repeat(scale, 0).repeat(scale, 1))
    (above, _), (before, _) = around
    corners = (box.left + before, box.top + above), (box.right + before, box.bottom + above)
    (x0, y0), (x1, y1) = ((x * scale, y * scale) for x, y in corners)
    ImageDraw.Draw(picture).rectangle((x0, y0, x1 - 1, y1 - 1), outline=_OUTLINE, width=2)
    return np.asarray(picture)


def kernel_with_numbers(kernel: Float[np.ndarray, "h w"], *, side: int) -> RGBImage:
    """Returns a kernel as a table of its weights, each cell in the colour of its number."""
    font, cell = font_of_size(side // (3 * len(kernel))), side // len(kernel)
    cells = _paint((kernel[None] / _limit(kernel[None], 100) * 0.7 + 1) / 2, "RdBu_r")[0]
    picture = Image.fromarray(cells.repeat(cell, 0).repeat(cell, 1))
    draw = ImageDraw.Draw(picture)
    for (row, column), weight in np.ndenumerate(kernel):
        at = (column + 0.5) * cell, (row + 0.5) * cell
        words = str(Fraction(float(weight)).limit_denominator(256)).replace("-", "−")
        draw.text(at, words, "black", font, anchor="mm")
    return np.asarray(picture)


def as_strip(features: Float[np.ndarray, " n"]) -> Float[np.ndarray, "h w"]:
    """Returns the features of a layer without positions as rows of a nearly square map.

    What is left of the last row is NaN.

    >>> as_strip(np.arange(5.0)).tolist()
    [[0.0, 1.0, 2.0], [3.0, 4.0, nan]]
    """
    columns = int(np.ceil(np.sqrt(len(features))))
    rows = -(-len(features) // columns)
    missing = np.full(rows * columns - len(features), np.nan, features.dtype)
    return np.concatenate([features, missing]).reshape(rows, columns)


def _limit(maps: Maps, percentile: float, *, shared: bool = False) -> Float[np.ndarray, "_ 1 1"]:
    axes = (0, 1, 2) if shared else (1, 2)
    limit = np.nanpercentile(np.abs(maps), percentile, axis=axes, keepdims=True)
    largest = np.nanmax(np.abs(maps), axis=axes, keepdims=True)
    limit = np.where(limit > 0, limit, largest)  # a few pixels alone are not zero
    return np.maximum(limit, 1e-12)


def _paint(values: Float[np.ndarray, "n h w"], colors: str) -> RGB:
    import matplotlib

    cmap = matplotlib.colormaps[colors].with_extremes(bad=(0.83, 0.83, 0.83, 1))
    return cmap(np.ma.masked_invalid(values), bytes=True)[..., :3]


def _to_bytes(images: Float[np.ndarray, "n h w 3"]) -> RGB:
    return np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)
