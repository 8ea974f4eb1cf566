"""The sheet of classic image kernels that `experiments.visualize --what=kernels` draws."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cnn_jax.analysis.figures import contact_sheet
from cnn_jax.analysis.heat_maps import kernel_with_numbers
from cnn_jax.analysis.image_kernels import KERNELS, apply_kernel, as_picture, sobel_magnitude
from cnn_jax.data.sources.image_file import BadImage, decode_image

_SIDE = 192
_WIDEST = max(max(kernel.shape) for kernel in KERNELS.values())
_LEAST = _WIDEST // 2 + 1  # pixels each way, so that there is enough to mirror at the border


def decode_for_kernels(content: bytes) -> UInt8[np.ndarray, "h w c"]:
    """Returns an image file's pixels in RGB, to which every kernel can be applied.

    Raises:
      BadImage: it is too small, or no image that can be read.
    """
    pixels = decode_image(content, size=0, channels=3)
    if min(pixels.shape[:2]) < _LEAST:
        size = f"{_WIDEST}×{_WIDEST}"
        raise BadImage(f"is too small for a kernel of {size}: {_LEAST} pixels each way at least")
    return pixels


def kernels_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ _"]], names: Sequence[str]
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns a column for each kernel: its weights, and below it what it makes of each image."""
    tables = [kernel_with_numbers(kernel, side=_SIDE) for kernel in KERNELS.values()]
    rows = [("weights", tables)]
    for image, name in zip(images, names, strict=True):
        pixels = jnp.asarray(_reduced(image), jnp.float32)[None] / 255
        made = [as_picture(apply_kernel(pixels, k), k)[0] for k in KERNELS.values()]
        rows.append((name, [np.asarray(each) for each in (*made, sobel_magnitude(pixels)[0])]))
    return contact_sheet(rows, columns=[*KERNELS, "length of sobel x, y"], tile=_SIDE)


def _reduced(image: UInt8[np.ndarray, "_ _ _"]) -> UInt8[np.ndarray, "_ _ _"]:
    """Returns an RGB image at the size in which it is shown, so that no detail is lost after."""
    picture = Image.fromarray(image)
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    if min(picture.size) < _LEAST:  # of a long and narrow image
        picture = Image.fromarray(image).resize([max(n, _LEAST) for n in picture.size])
    return np.asarray(picture)
