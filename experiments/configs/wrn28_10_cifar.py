"""WideResNet-28-10 on CIFAR-10.

    python -m experiments.train --config=wrn28_10_cifar --workdir=runs/wrn28_10_cifar

36,479,194 parameters. The paper's recipe: SGD with Nesterov momentum in batches of 128, rate 0.1
cut to a fifth after 60, 120 and 160 of 200 epochs, weight decay 5e-4, crops shifted by up to 4
pixels that mirror the border, flips. With dropout as in the paper: --config.model.dropout=0.3.
Published: 96.00%, 96.11% with dropout, trained on all 50,000 images; a tenth is kept for validation
here. Not yet run.
"""

from cnn_jax.config import Augment, Config, Data, Model, Optim, Train


def get_config() -> Config:
    """Returns the config."""
    return Config(
        data=Data(
            name="cifar10",
            batch_size=128,
            augment=Augment(crop_padding=4, border="reflect", flip=True),
        ),
        model=Model(name="wrn28_10"),
        optim=Optim(
            name="sgd",
            learning_rate=0.1,
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
            schedule="step",
            milestones=(0.3, 0.6, 0.8),
            decay_factor=0.2,
        ),
        train=Train(epochs=200),
    )
