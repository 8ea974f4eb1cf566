"""VGG-16 (configuration D) on ImageNet.

    python -m experiments.train --config=vgg16_imagenet --workdir=runs/vgg16_imagenet

138,357,544 parameters. The paper's recipe: SGD with momentum in batches of 256, rate 0.01 cut to a
tenth three times in 74 epochs, weight decay 5e-4, dropout 0.5. He initialisation stands in for the
paper's pre-training of shallower networks, resized crops for its scale jittering. The public
validation images are the test split here. Torchvision's model of this form (one crop of 224 from
256): 71.59% top-1. Not yet run.
"""

from cnn_jax.config import Augment, Config, Data, Model, Optim, Train


def get_config() -> Config:
    """Returns the config."""
    return Config(
        data=Data(
            name="imagenet2012",
            image_size=224,
            center_crop=0.875,
            crop_files=True,
            test_split="validation",
            validation_fraction=0.01,
            batch_size=256,
            augment=Augment(resized_crop=0.08, flip=True),
        ),
        model=Model(name="vgg16"),
        optim=Optim(
            name="sgd",
            learning_rate=0.01,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="step",
            milestones=(0.25, 0.5, 0.75),
        ),
        train=Train(epochs=74),
    )
