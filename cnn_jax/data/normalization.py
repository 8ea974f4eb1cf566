"""From uint8 pixels to what the network sees, by constants of the training split or of ImageNet's.

Pixels are first scaled to [0, 1]. Then, by kind:

- "unit": nothing more;
- "mean": minus the mean of each channel;
- "mean_std": minus the mean and over the standard deviation of each channel;
- "per_pixel": the same for each channel of each pixel;
- "zca": minus the mean of each value, then ZCA whitening, for images of up to 3,072 values;
- "imagenet": "mean_std" by ImageNet's constants, which weights that were learned on it expect.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from cnn_jax.config import NORMALIZATIONS
from cnn_jax.data.on_disk import ImagesOnDisk
from cnn_jax.data.spec import shape_text
from cnn_jax.errors import InputError, unknown
from cnn_jax.whole_files import replacing

ZCA_LIMIT = 32 * 32 * 3  # values of an image; its matrix holds the square of that
# Of ImageNet's training images in [0, 1], as torchvision has them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CHUNK = 2**24  # values at once in float


@dataclass(frozen=True, eq=False)
class Normalization:
    """The constants, for pixels in [0, 1]; stored with the run, so that all of it uses the same."""

    kind: str
    mean: Float[np.ndarray, "#h #w c"]
    std: Float[np.ndarray, "#h #w c"]
    whitening: Float[np.ndarray, "d d"] | None = None  # zca; d = h · w · c, symmetric

    def save(self, path: Path) -> None:
        """Writes the constants as .npz, whole or not at all."""
        arrays = {"kind": np.array(self.kind), "mean": self.mean, "std": self.std}
        if self.whitening is not None:
            arrays["whitening"] = self.whitening
        with replacing(path) as scratch, open(scratch, "wb") as file:
            np.savez(file, **arrays)

    @staticmethod
    def load(path: Path, image_shape: tuple[int, int, int] | None = None) -> "Normalization":
        """Returns what `save` wrote, for images of `image_shape` if that is given.

        Raises:
          InputError: there is no such file, something else in it, or constants of other images.
        """
        try:
            # Opened here, as np.load leaves a damaged file open.
            with open(path, "rb") as file, np.load(file) as arrays:
                found = dict(arrays)
            loaded = Normalization(str(found.pop("kind")), **found)
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror or error}") from error
        except Exception as error:  # each part of a zip, damaged, has its own kinds
            raise InputError(f"{path} holds no normalization: {error}") from error
        if image_shape and (problem := misfit(found, image_shape)):
            raise InputError(f"{path} is damaged or of another run: {problem}")
        return loaded


def misfit(constants: dict[str, np.ndarray], image_shape: tuple[int, int, int]) -> str:
    """Returns why constants can't be those of images of a shape, or nothing.

    >>> misfit({"mean": np.zeros((1, 1, 3)), "std": np.ones((8, 8, 3))}, (4, 4, 3))
    'std is 8 x 8 x 3, which is not for images of 4 x 4 x 3'
    """
    size, one_each = math.prod(image_shape), [(1, 1, image_shape[2]), tuple(image_shape)]
    shapes = {"mean": one_each, "std": one_each, "whitening": [(size, size)]}
    for name, values in constants.items():
        if values.shape not in shapes.get(name, []):
            found, wanted = shape_text(values.shape), shape_text(image_shape)
            return f"{name} is {found}, which is not for images of {wanted}"
        finite = values.dtype.kind == "f" and np.isfinite(values).all()
        if not finite or (name == "std" and not (values > 0).all()):
            return f"{name} must be finite, a std above 0"
    return ""


def fit_normalization(
    images: UInt8[np.ndarray, "n h w c"] | ImagesOnDisk, kind: str, *, epsilon: float = 1e-2
) -> Normalization:
    """Returns the constants for `kind`, computed from `images`.

    Means and deviations are those of the integers, exact but for the last rounding. Where values
    deviate by less than one level of the 256, they are only centred: dividing would turn noise, or
    a pixel that is lit once in the training split, into huge numbers.

    ZCA whitening multiplies by U (Λ + epsilon)^(−1/2) Uᵀ, where U Λ Uᵀ is the covariance of the
    flattened images in [0, 1] (arXiv 1512.00809, table 1). `epsilon` keeps directions that hardly
    vary from being blown up; it adds to their variance.

    Images on disk are decoded for "per_pixel" and "zca" alone; what the others need is known.

    Raises:
      InputError: the kind is unknown, the images are too large for "zca", or not of three
        channels for "imagenet".
    """
    if kind not in NORMALIZATIONS:
        raise unknown("data.normalization", kind, NORMALIZATIONS)
    if kind == "zca":
        return _fit_zca(images, epsilon)
    channels = images.shape[-1]
    mean, std = np.zeros((1, 1, channels)), np.ones((1, 1, channels))
    if kind in ("mean", "mean_std"):
        mean, std = _moments(images, axis=(0, 1))
    elif kind == "per_pixel":
        mean, std = _moments(images)
    elif kind == "imagenet":
        if channels != 3:
            raise InputError(f"data.normalization imagenet is for 3 channels, not {channels}")
        mean, std = (np.reshape(each, (1, 1, 3)) for each in (IMAGENET_MEAN, IMAGENET_STD))
    if kind == "mean":
        std = np.ones_like(std)
    return Normalization(kind, mean.astype(np.float32), std.astype(np.float32))


def _moments(
    images: UInt8[np.ndarray, "n h w c"] | ImagesOnDisk, axis: tuple[int, ...] = ()
) -> tuple[Float[np.ndarray, "#h #w c"], Float[np.ndarray, "#h #w c"]]:
    """Returns mean and deviation over all images, and over `axis` of an image, in [0, 1]."""
    total, squares = 0, 0
    if isinstance(images, ImagesOnDisk) and axis:
        total, squares = images.sums.sum(axis=0)[:, None, None]
    else:
        for chunk in _chunks(images):
            total += chunk.sum(axis=0, dtype=np.int64)
            squares += (chunk.astype(np.uint32) ** 2).sum(axis=0, dtype=np.int64)
    total, squares = (sums.sum(axis=axis, keepdims=True) for sums in (total, squares))
    count = images.size // total.size
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean / 255, np.where(std < 1, 255, std) / 255


def _chunks(images: UInt8[np.ndarray, "n h w c"] | ImagesOnDisk) -> Iterator[np.ndarray]:
    """Yields the images in parts that may be converted to float without filling the memory."""
    step = max(1, _CHUNK // int(np.prod(images.shape[1:])))
    return (images[start : start + step] for start in range(0, len(images), step))


def _fit_zca(images: UInt8[np.ndarray, "n h w c"] | ImagesOnDisk, epsilon: float) -> Normalization:
    shape = images.shape[1:]
    size = int(np.prod(shape))
    if size > ZCA_LIMIT:
        raise InputError(
            f"data.normalization zca takes images of up to {ZCA_LIMIT:,} values, such as 32 x 32 x "
            f"3; these have {size:,}. Take per_pixel or mean_std"
        )
    mean, _ = _moments(images)
    covariance = np.zeros((size, size))
    centre = mean.reshape(-1).astype(np.float32)
    for chunk in _chunks(images):
        centred = chunk.reshape(-1, size).astype(np.float32) / np.float32(255) - centre
        covariance += centred.T @ centred
    variances, directions = np.linalg.eigh(covariance / len(images))
    scales = 1 / np.sqrt(np.maximum(variances, 0) + epsilon)
    whitening = (directions * scales) @ directions.T
    std = np.ones((1, 1, shape[-1]), np.float32)
    return Normalization("zca", mean.astype(np.float32), std, whitening.astype(np.float32))


def to_unit(images: UInt8[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Returns the pixels as float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255


def normalize(
    images: Float[Array, "n h w c"], normalization: Normalization
) -> Float[Array, "n h w c"]:
    """Returns images in [0, 1] as the kind of normalization says, in their own type."""
    mean, std = (
        jnp.asarray(constant, images.dtype)[None]
        for constant in (normalization.mean, normalization.std)
    )
    images = (images - mean) / std
    if normalization.whitening is None:
        return images
    matrix = jnp.asarray(normalization.whitening, images.dtype)
    flat = images.reshape(images.shape[0], -1)
    return jnp.matmul(flat, matrix, precision="highest").reshape(images.shape)
