"""ResNet-101 on ImageNet.

    python -m experiments.train --config=resnet101_imagenet --workdir=runs/resnet101_imagenet

44,549,160 parameters; the recipe is that of resnet50_imagenet. Torchvision's model of this form
(one crop of 224 from 256): 77.37% top-1. Not yet run.
"""

from cnn_jax.config import Config
from experiments.configs.resnet50_imagenet import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.model.name = "resnet101"
    return config
