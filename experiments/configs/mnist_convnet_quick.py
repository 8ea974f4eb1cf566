"""The network of mnist_convnet, to 98.9% in one epoch: for the time it takes, and first tries.

    python -m experiments.train --config=mnist_convnet_quick --workdir=runs/quick

Muon at twice the rate of mnist_convnet_modern, batches of 128, one epoch, no augmentation, no
report. `experiments.benchmark_accuracy` times it beside Keras with the published recipe.
"""

from cnn_jax.config import Config
from experiments.configs.mnist_convnet_modern import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.data.batch_size = 128
    config.data.augment.crop_padding = 0
    config.optim.learning_rate = 2e-2
    config.train.epochs = 1
    config.train.pictures = False
    return config
