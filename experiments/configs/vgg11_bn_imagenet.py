"""VGG-11 (configuration A) with batch norm on ImageNet.

    python -m experiments.train --config=vgg11_bn_imagenet --workdir=runs/vgg11_bn_imagenet

132,868,840 parameters, the convolutions' biases among them; the recipe is that of vgg11_imagenet at
a higher rate. Not yet run.
"""

from cnn_jax.config import Config
from experiments.configs.vgg11_imagenet import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.model.batch_norm = True
    config.optim.learning_rate = 0.1
    config.optim.weight_decay = 1e-4
    return config
