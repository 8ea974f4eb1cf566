"""AlexNet in one tower, every convolution connected to all maps, on ImageNet.

    python -m experiments.train --config=alexnet_one_tower_imagenet --workdir=runs/alexnet_one_tower

62,378,344 parameters: the layers and sizes of alexnet_imagenet without groups, as most courses
count them; the recipe is the same. No published figure is known for exactly this form. Not yet run.
"""

from cnn_jax.config import Config
from experiments.configs.alexnet_imagenet import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.model.name = "alexnet_one_tower"
    return config
