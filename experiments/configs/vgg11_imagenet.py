"""VGG-11 (configuration A) on ImageNet.

    python -m experiments.train --config=vgg11_imagenet --workdir=runs/vgg11_imagenet

132,863,336 parameters; the recipe is that of vgg16_imagenet. Torchvision's model of this form (one
crop of 224 from 256): 69.02% top-1. Not yet run.
"""

from cnn_jax.config import Config
from experiments.configs.vgg16_imagenet import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.model.name = "vgg11"
    return config
