"""VGG-19 (configuration E) on ImageNet.

    python -m experiments.train --config=vgg19_imagenet --workdir=runs/vgg19_imagenet

143,667,240 parameters; the recipe is that of vgg16_imagenet. Torchvision's model of this form (one
crop of 224 from 256): 72.38% top-1. Not yet run.
"""

from cnn_jax.config import Config
from experiments.configs.vgg16_imagenet import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.model.name = "vgg19"
    return config
