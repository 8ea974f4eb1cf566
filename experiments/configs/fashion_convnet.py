"""A very small convnet for Fashion-MNIST: four 7×7 kernels, eight hidden units.

    python -m experiments.prepare --dataset=fashion_mnist
    python -m experiments.train --config=fashion_convnet --workdir=runs/fashion_convnet

6,570 parameters. Adam at its defaults, pixels in [0, 1], all 60,000 training images, 10 epochs in
batches of 128. No published figure is known for it. Not yet run.
"""

from cnn_jax.config import Config, Data, Model, Optim, Train


def get_config() -> Config:
    """Returns the config."""
    return Config(
        data=Data(
            name="fashion_mnist", batch_size=128, validation_fraction=0.0, normalization="unit"
        ),
        model=Model(name="fashion_convnet"),
        optim=Optim(name="adam", learning_rate=1e-3, epsilon=1e-7),
        train=Train(epochs=10),
    )
