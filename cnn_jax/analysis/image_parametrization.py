"""How an image is written in numbers that gradient ascent moves.

As pixels, or as a spectrum: Fourier coefficients divided by their frequency, as those of
photographs fall off, of channels that are uncorrelated in photographs. Ascent by the spectrum
favours shapes over noise (Olah, Mordvintsev, Schubert: Feature Visualization, Distill 2017). In
both cases a sigmoid maps what results to pixel values.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float, Key

Images = Float[Array, "n h w c"]
Shape = tuple[int, int, int]  # height, width, channels
Numbers = Float[Array, "n ..."]

# Square root of the covariance of ImageNet's colours, as in the source above, divided by its
# longest column.
COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
COLORS /= np.linalg.norm(COLORS, axis=0).max()


def start(key: Key[Array, ""], *, count: int, shape: Shape, spectrum: bool) -> Numbers:
    """Returns the numbers of `count` nearly grey images, noise of which ascent makes more."""
    height, width, channels = shape
    if spectrum:
        return 0.05 * jax.random.normal(key, (count, height, width // 2 + 1, channels, 2))
    return 0.3 * jax.random.normal(key, (count, *shape))


def to_images(numbers: Numbers, *, shape: Shape, spectrum: bool) -> Images:
    """Returns the images that the numbers stand for, their values in (0, 1)."""
    if not spectrum:
        return jax.nn.sigmoid(numbers)
    size = shape[:2]
    gain = math.sqrt(math.prod(size)) / np.maximum(_frequencies(size), 1 / max(size))
    parts = numbers * gain.astype(np.float32)[..., None]
    values = _inverse(lax.complex(parts[..., 0], parts[..., 1]), size)
    if shape[2] == len(COLORS):
        values = jnp.matmul(values, jnp.asarray(COLORS.T), precision="highest")
    return jax.nn.sigmoid(values)


def blur(numbers: Numbers, *, shape: Shape, sigma: float, spectrum: bool) -> Numbers:
    """Returns the numbers blurred by a Gaussian of `sigma` pixels that wraps around the borders."""
    size = shape[:2]
    transfer = np.exp(-2 * (np.pi * sigma * _frequencies(size)) ** 2).astype(np.float32)
    if spectrum:
        return numbers * transfer[..., None]
    return _inverse(jnp.fft.rfft2(numbers, axes=(1, 2)) * transfer.astype(np.complex64), size)


def total_variation(images: Images) -> Float[Array, " n"]:
    """Returns the mean difference between neighbours, down and across, of each image.

    Where there are no neighbours there is no difference.
    """
    ways = [jnp.diff(images, axis=axis) for axis in (1, 2) if images.shape[axis] > 1]
    return sum((jnp.abs(way).mean((1, 2, 3)) for way in ways), jnp.zeros(len(images), images.dtype))


def _frequencies(size: tuple[int, int]) -> Float[np.ndarray, "1 h f 1"]:
    """Returns the frequency of every coefficient of a real image, in cycles per pixel."""
    down, across = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None]
    return np.hypot(down, across)[None, ..., None]


def _inverse(coefficients: Complex[Array, "n h f c"], size: tuple[int, int]) -> Images:
    return jnp.fft.irfft2(coefficients, s=size, axes=(1, 2))
