"""ResNet-110 of the paper's section 4.2 on CIFAR-10.

    python -m experiments.train --config=resnet110_cifar --workdir=runs/resnet110_cifar

1,727,962 parameters; the recipe is that of resnet20_cifar, after a linear warm-up of 640 steps
where the paper starts at a rate of 0.01 until the training error is below 80%. Published: 93.57% at
best, 93.39% on average. Not yet run.
"""

from cnn_jax.config import Config
from experiments.configs.resnet20_cifar import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.model.name = "resnet110_cifar"
    config.optim.warmup = 0.01
    return config
