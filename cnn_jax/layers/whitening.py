"""A convolution that decorrelates small patches of images, computed from the images."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn_jax.layers.arithmetic import output_size
from cnn_jax.layers.precision import widen


def patch_whitening(
    images: Float[Array, "n h w c"], *, window: tuple[int, int] = (2, 2), epsilon: float = 5e-4
) -> Float[Array, "fh fw c features"]:
    """Returns the kernel whose outputs are the patches' principal components, of unit variance.

    The first fh · fw · c of its features are the eigenvectors of the patches' second moment, each
    over the root of its eigenvalue plus `epsilon`; as many again are their negatives, so that
    nothing is lost to an activation that lets one sign pass. It is the first layer of the CIFAR-10
    recipe of arXiv 2404.00498, section 3.1. For images that are centred, as after "mean_std".

    Raises ValueError for a window that does not fit and for images of integers.

    >>> import jax
    >>> from cnn_jax.layers.whitening import patch_whitening
    >>> patch_whitening(jax.random.normal(jax.random.key(0), (8, 6, 6, 3))).shape
    (2, 2, 3, 24)
    """
    (fh, fw), c, wide = window, images.shape[-1], widen(images)
    height, width = map(output_size, images.shape[1:3], window)
    views = [wide[:, i : i + height, j : j + width] for i in range(fh) for j in range(fw)]
    patches = jnp.concatenate(views, axis=-1).reshape(-1, fh * fw * c)
    moment = jnp.matmul(patches.T, patches, precision="highest") / len(patches)
    variances, directions = jnp.linalg.eigh(moment)
    # A variance of zero may come out as less, which large images make more than epsilon.
    scaled = directions / jnp.sqrt(jnp.maximum(variances, 0) + epsilon)[None]
    kernel = jnp.concatenate([scaled, -scaled], axis=1).reshape(fh, fw, c, -1)
    return kernel.astype(images.dtype)
