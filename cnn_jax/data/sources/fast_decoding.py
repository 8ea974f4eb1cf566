"""Ordinary JPEG and PNG files decoded by libjpeg-turbo and libspng: Pillow's pixels, bit for bit,
in a fraction of its time, and like it without the interpreter's lock.

Whatever is out of the ordinary (damaged, to be turned, of 16 bits or other channels than wanted) is
left to Pillow. So is everything where the two packages are missing. What can be read, and what is
said of the rest, is thus always Pillow's matter.
"""

import functools
import importlib
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_JPEG_COLORS = {1: ("Gray", "GRAY"), 3: ("YCbCr", "RGB")}  # by channels: in the file, decoded
_PNG_COLORS = {1: 0, 3: 2}  # by channels: the header's color type
_SCAN, _APP1, _APP2 = 0xDA, 0xE1, 0xE2  # JPEG markers: pixels follow; EXIF or XMP; more pictures
_DECODED = (b"IHDR", b"IDAT")  # PNG chunks that libspng checks
_HARMLESS = (b"bKGD", b"cHRM", b"gAMA", b"iCCP", b"pHYs", b"sBIT", b"sRGB", b"tIME")

Reduction = Callable[[tuple[int, int]], int]


class FastPixels(NamedTuple):
    """What was decoded, and the height and width that it has in the file."""

    pixels: UInt8[np.ndarray, "h w c"]
    shape: tuple[int, int]


def fast_pixels(
    content: bytes, *, channels: int, reduction: Reduction | None = None
) -> FastPixels | None:
    """Returns an image file's pixels as Pillow gives them, or None to have Pillow try.

    A JPEG is decoded at a half, a quarter or an eighth of its size, as `PIL.Image.Image.draft` has
    it, if `reduction` of its height and width is 2, 4 or 8.
    """
    try:
        if content.startswith(_JPEG):
            return _decode_jpeg(content, channels, reduction or (lambda shape: 1))
        if content.startswith(_PNG):
            return _decode_png(content, channels)
    except Exception:  # it is damaged, if Pillow says so too
        return None
    return None


def _decode_jpeg(content: bytes, channels: int, reduction: Reduction) -> FastPixels | None:
    turbo = _library("simplejpeg")
    if turbo is None:
        return None
    height, width, color, _ = turbo.decode_jpeg_header(content)
    stored, wanted = _JPEG_COLORS[channels]
    if color != stored or _too_large(height, width) or not _is_plain_jpeg(content):
        return None
    scale = reduction((height, width))
    size = {"min_height": -(-height // scale), "min_width": -(-width // scale)}
    return FastPixels(turbo.decode_jpeg(content, wanted, **size), (height, width))


def _is_plain_jpeg(content: bytes) -> bool:
    """Whether no segment before the pixels turns them or tells of further pictures."""
    at = 2
    while (marker := content[at + 1]) != _SCAN:
        if content[at] != 0xFF or not 0xC0 <= marker < 0xFF or 0xD0 <= marker < 0xDA:
            return False
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4])
        if marker == _APP1 and not _is_upright(content[at + 4 : end]):
            return False
        if marker == _APP2 and content.startswith(b"MPF\0", at + 4):
            return False
        at = end
    return True


def _is_upright(segment: bytes) -> bool:
    if segment.startswith(b"Exif\0\0"):
        exif = Image.Exif()
        exif.load(segment)
        return exif.get(ExifTags.Base.Orientation, 1) == 1
    return b"Orientation" not in segment  # of XMP


def _decode_png(content: bytes, channels: int) -> FastPixels | None:
    codecs = _library("imagecodecs")
    height, width = (int.from_bytes(content[at : at + 4]) for at in (20, 16))
    depth, color = content[24:26]
    ordinary = depth == 8 and color == _PNG_COLORS[channels] and _is_plain_png(content)
    if codecs is None or not ordinary or _too_large(height, width):
        return None
    pixels = codecs.spng_decode(content).reshape(height, width, channels)
    return FastPixels(pixels, (height, width))


def _is_plain_png(content: bytes) -> bool:
    """Whether nothing beside the pixels turns them, tells of further pictures or is damaged."""
    at = len(_PNG)
    while (kind := content[at + 4 : at + 8]) != b"IEND":
        end = at + 8 + int.from_bytes(content[at : at + 4])
        if kind not in _DECODED and not _is_harmless(content[at + 4 : end], content[end : end + 4]):
            return False
        at = end + 4
    return True


def _is_harmless(chunk: bytes, checksum: bytes) -> bool:
    known = chunk[:4] in _HARMLESS
    if chunk.startswith(b"tEXt"):
        known = not any(word in chunk for word in (b"exif", b"Orientation"))
    return known and zlib.crc32(chunk).to_bytes(4) == checksum


def _too_large(height: int, width: int) -> bool:
    return height * width > (Image.MAX_IMAGE_PIXELS or height * width)


@functools.cache
def _library(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
