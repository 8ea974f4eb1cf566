"""VGG-13 (configuration B) on ImageNet.

    python -m experiments.train --config=vgg13_imagenet --workdir=runs/vgg13_imagenet

133,047,848 parameters; the recipe is that of vgg16_imagenet. Torchvision's model of this form (one
crop of 224 from 256): 69.93% top-1. Not yet run.
"""

from cnn_jax.config import Config
from experiments.configs.vgg16_imagenet import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.model.name = "vgg13"
    return config
