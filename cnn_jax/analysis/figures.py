"""Pictures of images, drawn with Pillow alone."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

Tile = UInt8[np.ndarray, "_ _ _"] | Float[np.ndarray, "_ _ _"]
# Rows may differ in their number and size of images.
Images = UInt8[np.ndarray, "_ _ _ _"] | Float[np.ndarray, "_ _ _ _"] | Sequence[Tile]

_GAP, _FONT_SIZE = 3, 12


def contact_sheet(
    rows: Sequence[tuple[str, Images]], *, columns: Sequence[str] = (), tile: int = 64
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns one picture of rows of images, each row's caption at its left.

    Images are uint8, or floats of which those outside [0, 1] are cut off; of other than one or
    three channels the mean is shown. Each fits into a square of `tile` pixels: small ones are
    enlarged by a whole number, so that their pixels stay visible. `columns` are headings, cut to
    the tile's width. A caption's second and further lines are grey.
    """
    font = font_of_size(_FONT_SIZE)
    left = 2 * _GAP + max((_width(font, caption) for caption, _ in rows), default=0)
    top = _GAP + (_FONT_SIZE + 2 * _GAP if columns else 0)
    pitch = tile + _GAP
    count = max([len(columns), *(len(images) for _, images in rows)])
    sheet = Image.new("RGB", (left + count * pitch, top + len(rows) * pitch), "white")
    draw = ImageDraw.Draw(sheet)
    for i, heading in enumerate(columns):
        words = _shortened(heading, font, tile)
        draw.text((left + i * pitch + tile // 2, _GAP), words, "black", font, anchor="mt")
    for j, (caption, images) in enumerate(rows):
        y = top + j * pitch
        _write_caption(draw, caption, y + tile // 2, font)
        for i, image in enumerate(images):
            sheet.paste(_tile(image, tile), (left + i * pitch, y))
    return np.asarray(sheet)


@functools.cache
def font_of_size(size: int) -> ImageFont.FreeTypeFont:
    """Returns DejaVu Sans, which has more alphabets than Pillow's own font; from matplotlib."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, size)


def _width(font: ImageFont.FreeTypeFont, caption: str) -> int:
    return max(math.ceil(font.getlength(line)) for line in caption.split("\n"))


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    kept = next(
        n for n in range(len(text), -1, -1) if font.getlength(f"{text[:n]}…") <= width or not n
    )
    return f"{text[:kept]}…"


def _write_caption(
    draw: ImageDraw.ImageDraw, caption: str, middle: int, font: ImageFont.FreeTypeFont
) -> None:
    lines, height = caption.split("\n"), _FONT_SIZE + _GAP
    for i, line in enumerate(lines):
        y = middle + (i - (len(lines) - 1) / 2) * height
        draw.text((_GAP, y), line, "dimgrey" if i else "black", font, anchor="lm")


def picture(image: UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"]) -> Image.Image:
    """Returns an image in RGB: floats outside [0, 1] cut off, the mean of other channel counts."""
    if image.dtype != np.uint8:
        image = np.round(255 * np.clip(np.nan_to_num(image.astype(np.float32)), 0, 1))
    if image.shape[-1] != 3:
        image = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
    return Image.fromarray(np.round(image).astype(np.uint8))


def _tile(image: UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"], size: int) -> Image.Image:
    """Returns an image in RGB, centred on a grey square."""
    shown = picture(image)
    larger = size // max(shown.size)
    if larger:
        shape = tuple(side * larger for side in shown.size)
        shown = shown.resize(shape, Image.Resampling.NEAREST)
    else:
        shown.thumbnail((size, size), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (size, size), "lightgrey")
    square.paste(shown, tuple((size - side) // 2 for side in shown.size))
    return square
