"""One image file, decoded and brought to size on the host; or the reason why it can't be."""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from cnn_jax.data.cropping import Part, central_part
from cnn_jax.data.sources.fast_decoding import fast_pixels

_ROTATED = (5, 6, 7, 8)  # values of the EXIF orientation that swap height and width
_WHITE_IS_ZERO = 0  # a value of TIFF's photometric interpretation
_MODES = {1: "L", 3: "RGB"}
_SCALES = (1, 2, 4, 8)  # by which a JPEG can be reduced as it is decoded


class BadImage(ValueError):
    """A file that is no whole image; the message says why, without the file's name."""


class UnreadFile(BadImage):
    """A file whose content could not be had; it may be whole, and be read another time."""


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Makes Pillow refuse what it only warns of: images so large that they may be an attack.

    Other warnings, such as of odd metadata, are dropped. It changes the process's warning filters,
    so it is entered once around all reading, not in each thread.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def image_size(content: bytes) -> tuple[int, int]:
    """Returns an image's height and width as it is to be seen (EXIF orientation).

    Raises:
      BadImage: it is empty, no image, or too large (Pillow's limit, 89 megapixels by default).
    """
    with _open(content) as image:
        try:
            return _upright_shape(image)
        except Exception as error:  # a PNG may have its orientation after its pixels
            raise BadImage(f"is corrupt or truncated ({_reason(error)})") from error


def _upright_shape(image: Image.Image) -> tuple[int, int]:
    rotated = image.getexif().get(ExifTags.Base.Orientation) in _ROTATED
    return image.size if rotated else image.size[::-1]


def decode_image(
    content: bytes, *, size: int | tuple[int, int], channels: int, part: Part = central_part
) -> UInt8[np.ndarray, "h w c"]:
    """Returns an image file's pixels, upright (EXIF orientation), 8 bits, gray or RGB.

    `size` > 0 scales a part of the image to a square of that size, with antialiasing: the largest
    there is in the centre, or what `part` says; a pair is height and width, and 0 leaves the image
    as it is. `channels` is 1 (luma) or 3. Transparency is dropped; of an animation the first frame
    is taken; gray of up to 16 bits is scaled to 8.

    Raises:
      BadImage: the file is empty, truncated, corrupt, no image, of deeper or float pixels, or too
        large.
    """
    target = size if isinstance(size, tuple) else (size, size)
    reduction = partial(_reduction, target=target, part=part)
    fast = fast_pixels(content, channels=channels, reduction=reduction)
    if fast is None:
        return _decode_by_pillow(content, target, channels, part)
    pixels, shape = fast
    if not size or (shape == target and part is central_part):
        return pixels
    image = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
    return np.array(_fit(image, shape, target, part)).reshape(*target, channels)


def _decode_by_pillow(
    content: bytes, target: tuple[int, int], channels: int, part: Part
) -> UInt8[np.ndarray, "h w c"]:
    with _open(content) as image:
        try:
            shape = _draft(image, target, part) if image.format == "JPEG" else None
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # otherwise it copies what is upright
        except Exception as error:  # every decoder of Pillow has its own kinds
            raise BadImage(f"is corrupt or truncated ({_reason(error)})") from error
        upright = _eight_bits(image)
        if upright.mode != _MODES[channels]:
            upright = _converted(upright, _MODES[channels])
        shape = shape or (upright.height, upright.width)
        fitted = _fit(upright, shape, target, part) if all(target) else upright
        return np.array(fitted).reshape(fitted.height, fitted.width, channels)


def _draft(image: Image.Image, target: tuple[int, int], part: Part) -> tuple[int, int]:
    """Has a JPEG decoded at a coarser scale, if it is large; returns its own upright shape."""
    shape = _upright_shape(image)
    if (scale := _reduction(shape, target, part)) > 1:
        image.draft(None, (image.width // scale, image.height // scale))
    return shape


def _reduction(shape: tuple[int, int], target: tuple[int, int], part: Part) -> int:
    """Returns by how much a JPEG may be reduced as it is decoded: twice the target is left."""
    # Most images are too small for that, whatever the part.
    if not all(target) or shape[0] < 4 * target[0] or shape[1] < 4 * target[1]:
        return 1
    left, top, right, bottom = part(shape, target)
    most = min((bottom - top) / (2 * target[0]), (right - left) / (2 * target[1]))
    return max((each for each in _SCALES if each <= most), default=1)


def fit_array(image: np.ndarray, size: int, *, part: Part = central_part) -> np.ndarray:
    """Scales an array (H, W, C) as `decode_image` does a file; any number of channels.

    >>> import numpy as np
    >>> fit_array(np.zeros((6, 4, 5), np.uint8), 2).shape
    (2, 2, 5)
    """
    if not size:
        return image
    shape = image.shape[:2]
    planes = [
        np.array(_fit(Image.fromarray(image[..., channel]), shape, (size, size), part))
        for channel in range(image.shape[-1])
    ]
    return np.stack(planes, axis=-1)


def read_bytes(path: Path | str) -> bytes:
    """Returns a file's content.

    Raises:
      UnreadFile: the file can't be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # to make a buffer takes longer than to read
            return file.read()
    except OSError as error:
        raise UnreadFile(f"can't be read ({error.strerror})") from error


def shown(path: Path | str) -> str:
    """Returns a path that any terminal can print; names need not be valid text."""
    return os.fsencode(path).decode(errors="replace")


def _open(content: bytes) -> Image.Image:
    if not content:
        raise BadImage("is empty")
    try:
        return Image.open(io.BytesIO(content))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = Image.MAX_IMAGE_PIXELS / 1e6
        raise BadImage(f"has more than {limit:.0f} megapixels, too many to decode") from error
    except Exception as error:  # an unknown format, or a header that breaks its decoder
        raise BadImage("is no image, or not in a format that Pillow reads") from error


def _fit(
    image: Image.Image, shape: tuple[int, int], target: tuple[int, int], part: Part
) -> Image.Image:
    """Crops and scales in one pass; `shape` is the image's before it was reduced.

    Of a reduced one the last row and column may stand for less than the others.
    """
    scale = next(s for s in _SCALES if s * image.width >= shape[1])
    box = tuple(edge / scale for edge in part(shape, target))
    return image.resize(target[::-1], Image.Resampling.BILINEAR, box=box)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow would clip deeper pixels at 255 when it converts them."""
    if image.mode == "F":
        raise BadImage("has float pixels; save it with 8 bits a channel")
    if image.mode == "I" or image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})  # of a TIFF; of other formats Pillow makes 16 bits
        depth = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
        pixels, top = np.array(image).astype(np.int64), 2**depth - 1
        if depth > 16 or pixels.min() < 0 or pixels.max() > top:
            raise BadImage("has pixels of more than 16 bits; save it with 8 bits a channel")
        if tags.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO:
            pixels = top - pixels
        return Image.fromarray(np.rint(pixels / (top / 255)).astype(np.uint8))
    return image


def _converted(image: Image.Image, mode: str) -> Image.Image:
    try:
        by_rgb = image.convert("RGB") if image.mode == "LAB" else image  # the one way Pillow knows
        return by_rgb.convert(mode)
    except ValueError as error:
        raise BadImage(f"has {image.mode} pixels; save it as RGB or gray") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
