"""ResNet-18 with a stem for small images on CIFAR-10.

    python -m experiments.train --config=resnet18_cifar --workdir=runs/resnet18_cifar

11,173,962 parameters: ImageNet's ResNet-18 behind a 3×3 convolution of stride 1, without the first
pooling. The recipe is that of vgg_cifar. Goal: 95.5% or better. Not yet run.
"""

from cnn_jax.config import Config
from experiments.configs.vgg_cifar import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.model.name = "resnet18_cifar"
    return config
