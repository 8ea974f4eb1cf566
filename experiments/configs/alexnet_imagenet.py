"""AlexNet of 2012 in its two towers on ImageNet.

    python -m experiments.train --config=alexnet_imagenet --workdir=runs/alexnet_imagenet

60,965,224 parameters. The paper's recipe: SGD with momentum in batches of 128, rate 0.01 cut to a
tenth three times in 90 epochs, weight decay 5e-4, flips, shifts along the principal colours. Crops
are resized ones of the whole photograph instead of the paper's, of 224 from its middle 256, and the
test takes one crop of 227. The public validation images are the test split here. Published (ten
crops): 40.7% top-1 error. Not yet run.
"""

from cnn_jax.config import Augment, Config, Data, Model, Optim, Train


def get_config() -> Config:
    """Returns the config."""
    return Config(
        data=Data(
            name="imagenet2012",
            image_size=227,
            center_crop=0.875,
            crop_files=True,
            test_split="validation",
            validation_fraction=0.01,
            batch_size=128,
            augment=Augment(resized_crop=0.08, flip=True, lighting=0.1),
        ),
        model=Model(name="alexnet"),
        optim=Optim(
            name="sgd",
            learning_rate=0.01,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="step",
            milestones=(0.25, 0.5, 0.75),
        ),
        train=Train(epochs=90),
    )
