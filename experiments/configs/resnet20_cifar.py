"""ResNet-20 of the paper's section 4.2 on CIFAR-10.

    python -m experiments.train --config=resnet20_cifar --workdir=runs/resnet20_cifar

269,722 parameters, shortcuts without any. The paper's recipe: SGD with momentum in batches of 128,
rate 0.1 cut to a tenth after 32,000 and 48,000 of 64,000 steps, weight decay 1e-4, crops shifted by
up to 4 pixels, flips; 45,000 images train and 5,000 validate. Channels are normalised by mean and
deviation where the paper subtracts the mean image. Published: 91.25%. Not yet run.
"""

from cnn_jax.config import Augment, Config, Data, Model, Optim, Train


def get_config() -> Config:
    """Returns the config."""
    return Config(
        data=Data(name="cifar10", batch_size=128, augment=Augment(crop_padding=4, flip=True)),
        model=Model(name="resnet20_cifar"),
        optim=Optim(
            name="sgd",
            learning_rate=0.1,
            momentum=0.9,
            weight_decay=1e-4,
            schedule="step",
            milestones=(0.5, 0.75),
        ),
        train=Train(steps=64_000),
    )
