"""The fast way through JPEG and PNG files: Pillow's pixels or none, and none of what is damaged."""

import io
import warnings
from functools import partial

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cnn_jax.data.cropping import central_part, random_part
from cnn_jax.data.sources import fast_decoding, image_file
from cnn_jax.data.sources.fast_decoding import fast_pixels
from cnn_jax.data.sources.image_file import BadImage, decode_image, strict_pillow

_ORIENTATION = 0x0112
XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'


def _picture(height, width, mode="RGB"):
    rng = np.random.default_rng(height * 1000 + width)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize((width, height))
    noisy = np.asarray(coarse, int) + rng.integers(-9, 10, (height, width, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).convert(mode)


def _encode(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _exif(orientation):
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif


def _text(key, value, add="add_text"):
    notes = PngImagePlugin.PngInfo()
    getattr(notes, add)(key, value)
    return notes


def _by_pillow(content):
    """Returns its pixels as (H, W, C), or None if Pillow refuses it."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
            warnings.simplefilter("ignore")
            pixels = np.array(image)
            return pixels[..., None] if pixels.ndim == 2 else pixels
    except Exception:
        return None


SMALL, ODD = _picture(16, 17), _picture(33, 47)
JPEG = {
    "4:4:4": _encode(ODD, "JPEG", subsampling=0, quality=95),
    "4:2:2": _encode(ODD, "JPEG", subsampling=1),
    "4:2:0": _encode(SMALL, "JPEG", subsampling=2),
    "progressive": _encode(ODD, "JPEG", progressive=True),
    "restarts": _encode(ODD, "JPEG", restart_marker_blocks=1),
    "gray": _encode(_picture(9, 8, "L"), "JPEG"),
    "upright": _encode(ODD, "JPEG", exif=_exif(1)),
    "comment": _encode(ODD, "JPEG", comment="a word", icc_profile=bytes(50)),
}
PNG = {
    "rgb": _encode(SMALL, "PNG"),
    "gray": _encode(_picture(9, 8, "L"), "PNG"),
    "notes": _encode(ODD, "PNG", dpi=(72, 72), icc_profile=bytes(50), pnginfo=_text("By", "me")),
}
LEFT = {
    "turned jpeg": _encode(ODD, "JPEG", exif=_exif(6)),
    "turned by xmp": _encode(ODD, "JPEG", xmp=XMP),
    "cmyk": _encode(ODD.convert("CMYK"), "JPEG"),
    "rgb jpeg": _encode(ODD, "JPEG", keep_rgb=True),
    "gray jpeg": JPEG["gray"],
    "two pictures": _encode(ODD, "MPO", save_all=True, append_images=[ODD]),
    "turned png": _encode(ODD, "PNG", exif=_exif(6)),
    "png turned by xmp": _encode(
        ODD, "PNG", pnginfo=_text("XML:com.adobe.xmp", XMP.decode(), "add_itxt")
    ),
    "exif as text": _encode(ODD, "PNG", pnginfo=_text("Raw profile type exif", "x")),
    "palette": _encode(ODD.convert("P"), "PNG"),
    "alpha": _encode(ODD.convert("RGBA"), "PNG"),
    "transparent color": _encode(ODD, "PNG", transparency=(1, 2, 3)),
    "gray png": PNG["gray"],
    "16 bits": _encode(Image.fromarray(np.full((4, 4), 999, np.uint16)), "PNG"),
    "animation": _encode(SMALL, "PNG", save_all=True, append_images=[ODD.resize(SMALL.size)]),
    "gif": _encode(SMALL, "GIF"),
}
FILES = {f"jpeg {name}": content for name, content in JPEG.items()} | {
    f"png {name}": content for name, content in PNG.items()
}


@pytest.fixture
def libraries():
    for name in ("simplejpeg", "imagecodecs"):
        pytest.importorskip(name)


@pytest.mark.parametrize("name", FILES)
def test_ordinary_files_get_pillows_pixels(name, libraries):
    expected = _by_pillow(FILES[name])
    found, shape = fast_pixels(FILES[name], channels=expected.shape[-1])
    np.testing.assert_array_equal(found, expected)
    assert shape == expected.shape[:2]
    assert found.flags.c_contiguous and found.flags.writeable


@pytest.mark.parametrize(("height", "width"), [(211, 97), (64, 50), (9, 300), (15, 8)])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_large_jpegs_are_coarse_as_pillows_drafts(height, width, scale, libraries):
    content = _encode(_picture(height, width), "JPEG")
    with Image.open(io.BytesIO(content)) as image:
        image.draft(None, (width // scale, height // scale))
        expected = np.array(image)
    found, shape = fast_pixels(content, channels=3, reduction=lambda shape: scale)
    np.testing.assert_array_equal(found, expected)
    assert shape == (height, width) and len(found) == -(-height // scale)


@pytest.mark.parametrize("name", LEFT)
def test_others_are_left_to_pillow(name, libraries):
    channels = 1 if name == "16 bits" else 3
    assert fast_pixels(LEFT[name], channels=channels) is None


def test_bombs_are_left_to_pillow(libraries, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16 * 17 - 1)
    for content in JPEG["4:2:0"], PNG["rgb"]:
        assert fast_pixels(content, channels=3) is None
        with strict_pillow(), pytest.raises(BadImage, match="megapixels"):
            decode_image(content, size=0, channels=3)


def _damaged(content, rng):
    """Yields a file cut off, with changed bytes, with some missing, and with some too many."""
    at, some = int(rng.integers(len(content))), rng.integers(0, 256, 9, np.uint8).tobytes()
    yield content[:at]
    yield content[:at] + some[:1] + content[at + 1 :]
    yield content[:at] + some[: 1 + at % 9] + content[at + 1 + at % 9 :]
    yield content[:at] + content[at + 1 + at % 9 :]
    yield content[:at] + some + content[at:]


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_read_of_a_damaged_file_that_pillow_would_refuse(name, libraries):
    content, rng = FILES[name], np.random.default_rng(0)
    channels = 1 if "gray" in name else 3
    left = 0
    for _ in range(30):
        for damaged in _damaged(content, rng):
            found = fast_pixels(damaged, channels=channels)
            if found is not None:
                np.testing.assert_array_equal(found.pixels, _by_pillow(damaged))
            left += found is None
    assert left > 30  # those cut off, at least


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [0, 2, 8, (7, 12)])
@pytest.mark.parametrize("part", [central_part, partial(random_part, key=(0, 0, 0), area=0.3)])
def test_without_the_libraries_pixels_are_the_same(name, size, part, libraries, monkeypatch):
    options = {"size": size, "channels": 1 if "gray" in name else 3, "part": part}
    fast = decode_image(FILES[name], **options)
    monkeypatch.setattr(fast_decoding, "_library", lambda name: None)
    assert image_file.fast_pixels(FILES[name], channels=options["channels"]) is None
    np.testing.assert_array_equal(decode_image(FILES[name], **options), fast)


def test_a_library_that_is_missing_is_none():
    assert fast_decoding._library("a_library_that_nobody_has") is None
