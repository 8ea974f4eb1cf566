"""The kernels that courses begin with: convolution as what a photo editor does."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnn_jax.layers import conv2d

KERNELS: dict[str, Float[np.ndarray, "h w"]] = {
    name: np.array(rows, np.float32) / divisor
    for name, divisor, rows in (
        ("identity", 1, [[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
        ("edges", 1, [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
        ("sobel x", 1, [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        ("sobel y", 1, [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
        ("sharpen", 1, [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        ("box blur", 9, [[1, 1, 1], [1, 1, 1], [1, 1, 1]]),
        (
            "gaussian blur",
            256,
            [
                [1, 4, 6, 4, 1],
                [4, 16, 24, 16, 4],
                [6, 24, 36, 24, 6],
                [4, 16, 24, 16, 4],
                [1, 4, 6, 4, 1],
            ],
        ),
        ("emboss", 1, [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]),
    )
}


def apply_kernel(
    images: Float[Array, "n h w c"], kernel: Float[np.ndarray, "fh fw"] | Float[Array, "fh fw"]
) -> Float[Array, "n h w c"]:
    """Returns every channel convolved with one kernel; beyond its border an image is mirrored.

    As everywhere here the kernel is not flipped.

    >>> ramp = jnp.tile(jnp.arange(4.0), (4, 1))[None, ..., None]
    >>> apply_kernel(ramp, KERNELS["sobel x"])[0, 1, :, 0].tolist()
    [0.0, 8.0, 8.0, 0.0]
    """
    channels = images.shape[-1]
    depthwise = jnp.tile(jnp.asarray(kernel, images.dtype)[..., None, None], (1, 1, 1, channels))
    return conv2d(images, depthwise, border="reflect", groups=channels)


def sobel_magnitude(images: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Returns the length of the gradient that the two Sobel kernels measure.

    >>> sobel_magnitude(jnp.ones((1, 4, 4, 1))).max().item()
    0.0
    """
    across, down = (apply_kernel(images, KERNELS[name]) for name in ("sobel x", "sobel y"))
    return jnp.hypot(across, down)


def as_picture(
    filtered: Float[Array, "n h w c"], kernel: Float[np.ndarray, "fh fw"]
) -> Float[Array, "n h w c"]:
    """Returns a kernel's result to be looked at: where its weights sum up to zero, zero is grey."""
    offset = 0.5 if abs(float(np.sum(kernel))) < 1e-6 else 0.0
    return jax.lax.clamp(0.0, filtered + offset, 1.0)
