"""ResNet-34 on ImageNet.

    python -m experiments.train --config=resnet34_imagenet --workdir=runs/resnet34_imagenet

21,797,672 parameters; the recipe is that of resnet50_imagenet. Torchvision's model of this form
(one crop of 224 from 256): 73.31% top-1. Not yet run.
"""

from cnn_jax.config import Config
from experiments.configs.resnet50_imagenet import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.model.name = "resnet34"
    return config
