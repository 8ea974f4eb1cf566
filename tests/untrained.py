"""A run that has taken no step yet: the directory of a network with random weights."""

import jax
import numpy as np

from cnn_jax.data.datasets import dataset_spec
from cnn_jax.data.normalization import Normalization
from cnn_jax.models.registry import initialize
from cnn_jax.training.network import build_network
from cnn_jax.training.new_run import write_run


def write_untrained(workdir, config):
    """Writes the run directory of a config; its images are normalised by made-up constants."""
    spec = dataset_spec(config.data)
    shape = (1, 1, spec.image_shape[-1])
    mean, std = np.full(shape, 0.3, np.float32), np.full(shape, 0.2, np.float32)
    model = build_network(config, spec)
    write_run(
        workdir,
        config,
        spec=spec,
        normalization=Normalization("mean_std", mean, std),
        variables=initialize(jax.random.key(1), model=model, image_shape=spec.image_shape),
    )
