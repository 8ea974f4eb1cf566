"""Test-time augmentation: fixed views of each image, over whose logits a test averages."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn_jax.data.augment.draws import Images
from cnn_jax.data.augment.framing import with_border


def views_of(
    images: Images, *, mirror: bool, shift: int, border: str = "zero"
) -> Float[Array, "n views h w c"]:
    """Returns the views of each image: as it is; with `shift` moved by so many pixels along both
    diagonals, down and up; with `mirror` each of these left and right as well.

    They are those of Keller Jordan's 94%-in-seconds recipe (arXiv 2404.00498), which averages the
    logits. `border` says what a moved image leaves behind: "zero", "edge" or "reflect".

    >>> views_of(jnp.ones((2, 8, 8, 3)), mirror=True, shift=2).shape
    (2, 6, 8, 8, 3)
    """
    _, h, w, _ = images.shape
    views = [images]
    if shift:
        padded = with_border(images, shift, border)
        views += [padded[:, at : at + h, at : at + w] for at in (0, 2 * shift)]
    if mirror:
        views = [each for view in views for each in (view, view[:, :, ::-1])]
    return jnp.stack(views, axis=1)


def view_weights(*, mirror: bool, shift: int) -> tuple[float, ...]:
    """Returns the weights of the views in the mean: the image in place counts one half, those
    moved a quarter each; the mirrored share with the others.

    >>> view_weights(mirror=True, shift=2)
    (0.25, 0.25, 0.125, 0.125, 0.125, 0.125)
    """
    weights = (0.5, 0.25, 0.25) if shift else (1.0,)
    return tuple(weight / 2 for weight in weights for _ in range(2)) if mirror else weights
