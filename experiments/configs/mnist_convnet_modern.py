"""The network of mnist_convnet in the same 5 epochs, trained as one would today.

    python -m experiments.train --config=mnist_convnet_modern --workdir=runs/mnist_convnet_modern

Muon on whole kernels with warm-up and a cosine schedule, batches of 64, crops shifted by up to two
pixels, label smoothing. To beat: the 98.91% of the published recipe. Measured: 99.53% ±
0.06 (mean and standard deviation of 5 seeds, --config.population.seeds=5).
"""

from cnn_jax.config import Config, Optim
from experiments.configs.mnist_convnet import get_config as base


def get_config() -> Config:
    """Returns the config."""
    return modernized(base())


def modernized(config: Config) -> Config:
    """Returns an MNIST config with the recipe of today in place of its own, for as many epochs."""
    config.data.batch_size = 64
    config.data.augment.crop_padding = 2
    config.optim = Optim(
        name="muon", learning_rate=1e-2, weight_decay=1e-2, schedule="cosine", warmup=0.1
    )
    config.train.label_smoothing = 0.05
    return config
