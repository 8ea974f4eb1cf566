"""ResNet-56 of the paper's section 4.2 on CIFAR-10.

    python -m experiments.train --config=resnet56_cifar --workdir=runs/resnet56_cifar

853,018 parameters; the recipe is that of resnet20_cifar. Published: 93.03%. Not yet run.
"""

from cnn_jax.config import Config
from experiments.configs.resnet20_cifar import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.model.name = "resnet56_cifar"
    return config
