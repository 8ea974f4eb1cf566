"""The smallest thing that contenders are measured at."""

from cnn_jax.config import Config, Data, Model, Synthetic, Train
from experiments.contenders.task import benchmark_config


def tiny(dtype="float32"):
    data = Data(name="synthetic", synthetic=Synthetic((8, 8, 1), classes=3), batch_size=4)
    config = Config(name="tiny", data=data, model=Model("lenet_same"), train=Train(steps=1))
    return benchmark_config(config, dtype=dtype)
