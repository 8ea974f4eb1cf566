"""LeNet-5 as first published: average pooling and tanh.

    python -m experiments.train --config=lenet5_mnist --workdir=runs/lenet5_mnist

61,706 parameters; what else differs from 1998 is in `cnn_jax/models/lenet.py`. The recipe is that
of mnist_convnet for 20 epochs, as many passes as the paper made; the paper reports 0.95% test error
without distortions. Not yet run.
"""

from cnn_jax.config import Config
from experiments.configs.mnist_convnet import get_config as base


def get_config() -> Config:
    """Returns the config."""
    config = base()
    config.model.name = "lenet5"
    config.train.epochs = 20
    return config
