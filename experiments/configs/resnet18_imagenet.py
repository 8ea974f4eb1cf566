"""ResNet-18 on ImageNet.

    python -m experiments.train --config=resnet18_imagenet --workdir=runs/resnet18_imagenet

11,689,512 parameters; the recipe is that of resnet50_imagenet. Torchvision's model of this form
(one crop of 224 from 256): 69.76% top-1. Not yet run.
"""

from cnn_jax.config import Config
from experiments.configs.resnet50_imagenet import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.model.name = "resnet18"
    return config
