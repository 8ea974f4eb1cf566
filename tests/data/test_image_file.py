"""Single image files: pixels as Pillow and NumPy give them, and a reason for every bad one."""

import io
import struct
import warnings
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile

from cnn_jax.data.cropping import central_part, random_part
from cnn_jax.data.sources.image_file import (
    BadImage,
    decode_image,
    fit_array,
    image_size,
    read_bytes,
    strict_pillow,
)


def _pixels(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _encode(image, format="PNG", **options):
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, format=format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_lossless_formats_give_the_pixels(format):
    pixels = np.repeat(_pixels(5, 7, 1) // 128 * 255, 3, axis=2)
    content = _encode(pixels, format, **({"lossless": True} if format == "WEBP" else {}))
    np.testing.assert_array_equal(decode_image(content, size=0, channels=3), pixels)
    np.testing.assert_array_equal(decode_image(content, size=0, channels=1), pixels[..., :1])
    assert image_size(content) == (5, 7)


def test_jpeg_gives_what_pillow_gives():
    content = _encode(_pixels(9, 6), "JPEG", quality=95)
    expected = np.array(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(decode_image(content, size=0, channels=3), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb_or_gray(mode):
    image = Image.fromarray(_pixels(4, 4)).convert(mode)
    content = _encode(image, "TIFF" if mode == "CMYK" else "PNG")
    for channels, wanted in (3, "RGB"), (1, "L"):
        expected = np.array(image.convert(wanted)).reshape(4, 4, channels)
        found = decode_image(content, size=0, channels=channels)
        assert np.abs(found.astype(int) - expected).max() <= (1 if mode == "P" else 0)


def test_lab_becomes_rgb_or_gray():
    rgb = Image.fromarray(_pixels(4, 4) // 2 + 60)
    to_lab = ImageCms.buildTransform(*map(ImageCms.createProfile, ("sRGB", "LAB")), "RGB", "LAB")
    content = _encode(ImageCms.applyTransform(rgb, to_lab), "TIFF")
    for channels, wanted in (3, "RGB"), (1, "L"):
        found = decode_image(content, size=0, channels=channels)
        expected = np.array(rgb.convert(wanted)).reshape(found.shape)
        assert np.abs(found.astype(int) - expected).max() < 12


def test_sixteen_bits_are_scaled_and_not_clipped():
    pixels = np.array([[0, 257, 32896, 65535]], np.uint16)
    content = _encode(Image.fromarray(pixels))
    assert decode_image(content, size=0, channels=1)[..., 0].tolist() == [[0, 1, 128, 255]]


def _tiff(pixels, depth, *, white_is_zero=False):
    """Returns a gray TIFF file of a row of pixels, 12 or 16 bits each."""
    bits = "".join(f"{value:012b}" for value in pixels)  # 12 bits go from the highest to the lowest
    packed = int(bits, 2).to_bytes(len(bits) // 8) if depth == 12 else pixels.tobytes()
    tags = {256: len(pixels), 257: 1, 258: depth, 259: 1, 262: int(not white_is_zero)}
    tags |= {273: 8 + 2 + 12 * 9 + 4, 277: 1, 278: 1, 279: len(packed)}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    return b"II*\0" + struct.pack("<IH", 8, 9) + b"".join(entries) + bytes(4) + packed


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"depth": 12}, [0, 62, 187, 255]),
        ({"depth": 16}, [0, 4, 12, 16]),
        ({"depth": 16, "white_is_zero": True}, [255, 251, 243, 239]),
    ],
)
def test_deep_tiffs_are_scaled_by_their_depth_and_white_is_white(options, expected):
    content = _tiff(np.array([0, 1000, 3000, 4095], np.uint16), **options)
    assert decode_image(content, size=0, channels=1).ravel().tolist() == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright(orientation):
    """Orientation 6, for one, means: rotated by 90 degrees clockwise to be upright."""
    turned = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = _pixels(3, 5)
    content = _encode(pixels, exif=exif)
    np.testing.assert_array_equal(decode_image(content, size=0, channels=3), turned(pixels))
    assert image_size(content) == turned(pixels).shape[:2]


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 12), (13, 8)])
def test_the_centre_is_cropped(height, width):
    pixels = _pixels(height, width)
    top, left = (height - 8) / 2, (width - 8) / 2
    found = decode_image(_encode(pixels), size=8, channels=3)
    if top % 1 == left % 1 == 0:
        np.testing.assert_array_equal(found, pixels[int(top) :, int(left) :][:8, :8])
    else:  # half a pixel aside: the mean of neighbours
        mean = (pixels[2:10].astype(float) + pixels[3:11]) / 2
        np.testing.assert_allclose(found, mean, atol=1)


def test_the_shorter_side_is_scaled():
    blocks = _pixels(4, 6)
    pixels = blocks.repeat(4, axis=0).repeat(4, axis=1)
    found = decode_image(_encode(pixels), size=4, channels=3).astype(int)
    weights = np.array([1, 3, 5, 7, 7, 5, 3, 1]) / 32  # a triangle as wide as two blocks
    padded = np.pad(pixels.astype(float), ((2, 2), (0, 0), (0, 0)), constant_values=np.nan)
    rows = np.stack([padded[4 * i : 4 * i + 8] for i in range(4)])
    shares = np.where(np.isnan(rows), 0, weights[None, :, None, None])
    rows = (np.nan_to_num(rows) * shares).sum(1) / shares.sum(1)
    columns = np.stack([rows[:, 4 * i + 2 : 4 * i + 10] for i in range(4)], axis=1)
    expected = (columns * weights[None, None, :, None]).sum(2)
    np.testing.assert_allclose(found[:, 1:3], expected[:, 1:3], atol=1.5)


def test_large_jpegs_are_decoded_coarsely_but_nearly_the_same():
    smooth = np.array(Image.fromarray(_pixels(5, 7)).resize((560, 400), Image.Resampling.BICUBIC))
    coarse = decode_image(_encode(smooth, "JPEG", quality=95), size=20, channels=3).astype(int)
    exact = decode_image(_encode(smooth), size=20, channels=3)
    assert coarse.shape == (20, 20, 3) and np.abs(coarse - exact).max() <= 4


@pytest.mark.parametrize(("orientation", "scale"), [(3, 2), (6, 4)])
def test_a_jpeg_is_decoded_coarsely_by_the_size_it_is_seen_at(orientation, scale, monkeypatch):
    asked = []
    monkeypatch.setattr(JpegImageFile, "draft", lambda self, mode, size: asked.append(size))
    exif = Image.Exif()
    exif[0x0112] = orientation
    decode_image(_encode(_pixels(160, 100), "JPEG", exif=exif), size=(10, 20), channels=3)
    assert asked == [(100 // scale, 160 // scale)]


LOWER_RIGHT = (300.0, 200.0, 560.0, 400.0)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(20, 26), (100, 130), (400, 520)])
def test_a_part_is_cut_out_and_scaled(size, format):
    """Of a JPEG it is decoded at as coarse a scale as this part allows, not the whole."""
    smooth = np.array(Image.fromarray(_pixels(5, 7)).resize((560, 400), Image.Resampling.BICUBIC))
    content = _encode(smooth, format, **{"quality": 98} if format == "JPEG" else {})
    found = decode_image(content, size=size, channels=3, part=lambda shape, target: LOWER_RIGHT)
    cut = Image.fromarray(smooth).crop(LOWER_RIGHT)
    expected = np.array(cut.resize(size[::-1], Image.Resampling.BILINEAR), int)
    inner = np.s_[1:-1, 1:-1]  # pixels beside the edge see what lies beyond it, or don't
    np.testing.assert_allclose(found[inner], expected[inner], atol=0 if format == "PNG" else 6)


def test_a_part_of_a_coarse_jpeg_is_where_it_is_in_the_whole():
    """The coarse image is of 51 columns, the last of them for one column of 401 and not for 8."""
    ramp = np.broadcast_to(
        np.linspace(0, 250, 401).round().astype(np.uint8)[:, None], (401, 401, 3)
    )
    content = _encode(ramp.copy(), "JPEG", quality=98)
    part = (0.0, 0.0, 400.0, 400.0)
    found = decode_image(content, size=25, channels=3, part=lambda shape, target: part)
    expected = np.linspace(0, 250, 401)[:400].reshape(25, 16).mean(1)
    np.testing.assert_allclose(found[12, 1:-1, 0], expected[1:-1], atol=1)


@pytest.mark.parametrize("key", [(0, 0, 0), (0, 0, 1), (0, 1, 0)])
def test_random_parts_of_a_photograph_turned_are_those_of_one_upright(key):
    exif, part = Image.Exif(), partial(random_part, key=key, area=0.08)
    exif[0x0112] = 6
    smooth = np.array(Image.fromarray(_pixels(5, 7)).resize((560, 400), Image.Resampling.BICUBIC))
    turned = _encode(smooth, "JPEG", exif=exif, quality=98)
    upright = _encode(np.rot90(smooth, -1).copy(), "JPEG", quality=98)
    one, other = (decode_image(each, size=24, channels=3, part=part) for each in (turned, upright))
    assert np.abs(one.astype(int) - other).max() <= 6


def test_with_a_margin_it_is_scaled_to_more_and_cropped():
    smooth = Image.fromarray(_pixels(5, 7)).resize((500, 375), Image.Resampling.BICUBIC)
    scaled = smooth.resize((round(500 * 256 / 375), 256), Image.Resampling.BILINEAR)
    left = round((scaled.width - 224) / 2)
    expected = np.array(scaled.crop((left, 16, left + 224, 240)), int)
    part = partial(central_part, share=224 / 256)
    found = decode_image(_encode(smooth), size=224, channels=3, part=part)
    np.testing.assert_allclose(found, expected, atol=4)
    whole = decode_image(_encode(smooth), size=224, channels=3).astype(int)
    assert np.abs(whole - expected).mean() > 4
    same_size = decode_image(_encode(smooth.resize((224, 224))), size=224, channels=3, part=part)
    assert np.abs(same_size.astype(int) - np.array(smooth.resize((224, 224)))).mean() > 4


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_arrays_are_fitted_like_files(channels):
    pixels = _pixels(9, 6, channels)
    found = fit_array(pixels, 4)
    for channel in range(channels):
        file = _encode(pixels[..., channel])
        expected = decode_image(file, size=4, channels=1)
        np.testing.assert_array_equal(found[..., channel], expected[..., 0])
    assert fit_array(pixels, 0) is pixels
    corner = fit_array(pixels, 4, part=lambda shape, target: (2.0, 5.0, 6.0, 9.0))
    np.testing.assert_array_equal(corner, pixels[5:9, 2:6])


def _whole():
    return _encode(_pixels(64, 64))


def _bomb():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _encode(Image.new("1", (10_000, 10_000)))


BAD = {
    "empty": (lambda: b"", "is empty"),
    "text": (lambda: b"no image at all", "is no image"),
    "header": (lambda: _whole()[:20], "is no image"),
    "truncated": (lambda: _whole()[:-2000], "is corrupt or truncated"),
    "truncated jpeg": (lambda: _encode(_pixels(64, 64), "JPEG")[:-900], "is corrupt or truncated"),
    "corrupt": (lambda: _whole()[:900] + bytes(100) + _whole()[1000:], "is corrupt or truncated"),
    "bomb": (_bomb, "has more than 89 megapixels"),
    "float": (lambda: _encode(Image.new("F", (2, 2)), "TIFF"), "has float pixels"),
    "deep": (lambda: _encode(Image.new("I", (2, 2), 255), "TIFF"), "more than 16 bits"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_say_why(kind):
    make, words = BAD[kind]
    with strict_pillow(), pytest.raises(BadImage, match=words) as caught:
        decode_image(make(), size=8, channels=3)
    assert "\n" not in str(caught.value)


def test_the_size_of_a_bomb_is_not_given_either():
    with strict_pillow(), pytest.raises(BadImage, match="megapixels"):
        image_size(_bomb())


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadImage, match=r"can't be read \(No such file"):
        read_bytes(tmp_path / "x.png")


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_height_and_width_of_a_square_are_its_size(format):
    content = _encode(_pixels(211, 97), format)
    square = decode_image(content, size=20, channels=3)
    np.testing.assert_array_equal(decode_image(content, size=(20, 20), channels=3), square)


def test_other_shapes_get_the_largest_centred_part():
    pixels = _pixels(30, 40)
    found = decode_image(_encode(pixels), size=(10, 20), channels=3)
    part = Image.fromarray(pixels[5:25])
    expected = part.resize((20, 10), Image.Resampling.BILINEAR)
    assert found.shape == (10, 20, 3)
    np.testing.assert_array_equal(found[1:-1], np.array(expected)[1:-1])  # rows see their margin
    np.testing.assert_array_equal(decode_image(_encode(pixels), size=(30, 40), channels=3), pixels)
