"""Cats and dogs from 2,000 photographs with augmentation: what it is good for.

    python -m experiments.train --config=cats_dogs --config.data.dir=DIR

As cats_dogs_plain, for as many epochs, with images rotated, shifted, zoomed, mirrored and made
brighter or darker, so that they can't be learned by heart, and a learning rate that falls along a
cosine. Published: 81% or better. Measured, one seed: validation 83.5%, whose loss does not rise
towards the end, and test 80.6%.
"""

from cnn_jax.config import Augment, Config
from experiments.configs.cats_dogs_plain import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.data.augment = Augment(
        border="edge", flip=True, rotation=20.0, shift=0.1, zoom=0.2, brightness=0.1
    )
    config.optim.schedule = "cosine"
    return config
