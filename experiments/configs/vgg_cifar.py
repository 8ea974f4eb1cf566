r"""VGG-16 with batch norm on CIFAR-10 at 32×32: the flagship.

    python -m experiments.train --config=vgg_cifar --workdir=runs/vgg_cifar

A few steps of it on a CPU:

    python -m experiments.train --config=vgg_cifar \
        --config.train.steps=20 --config.data.batch_size=64

SGD with Nesterov momentum, shifted crops and flips, cosine schedule, label smoothing. The network
is configuration D of arXiv 1409.1556 with batch norm and a single dense layer: 14,724,042
parameters, or 14,728,266 with biases in the convolutions (--config.model.use_bias). Goal: 94% or
better. Not yet run to the end.
"""

from cnn_jax.config import Augment, Config, Data, Model, Optim, Train


def get_config() -> Config:
    """Returns the config."""
    return Config(
        data=Data(name="cifar10", batch_size=128, augment=Augment(crop_padding=4, flip=True)),
        model=Model(name="vgg16_cifar"),
        optim=Optim(
            name="sgd",
            learning_rate=0.1,
            nesterov=True,
            weight_decay=5e-4,
            schedule="cosine",
            warmup=0.025,
        ),
        train=Train(epochs=200, label_smoothing=0.1),
    )
