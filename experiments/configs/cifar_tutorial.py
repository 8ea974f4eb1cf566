"""A first convnet for CIFAR-10: two convolutions of 50 kernels, dense 50.

    python -m experiments.train --config=cifar_tutorial --workdir=runs/cifar_tutorial

114,510 parameters. Adam at its defaults, pixels in [0, 1], all 50,000 training images, 10 epochs in
batches of 32 (Keras's default), no augmentation. Published: 65 to 70% test accuracy. Measured on a
copy whose images had been JPEG-compressed: 67.0% ± 1.6 (3 seeds).
"""

from cnn_jax.config import Config, Data, Model, Optim, Train


def get_config() -> Config:
    """Returns the config."""
    return Config(
        data=Data(name="cifar10", batch_size=32, validation_fraction=0.0, normalization="unit"),
        model=Model(name="cifar_tutorial"),
        optim=Optim(name="adam", learning_rate=1e-3, epsilon=1e-7),
        train=Train(epochs=10),
    )
