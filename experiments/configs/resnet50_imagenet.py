"""ResNet-50 on ImageNet.

    python -m experiments.train --config=resnet50_imagenet --workdir=runs/resnet50_imagenet

25,557,032 parameters; the stride of a bottleneck is in its 3×3 convolution. SGD with momentum in
batches of 256, rate 0.1 cut to a tenth after 30 and 60 of 90 epochs, weight decay 1e-4, resized
crops, flips. The public validation images are the test split here. Torchvision's model of this form
(one crop of 224 from 256): 76.13% top-1. Not yet run.

Images are streamed: worker processes decode them, cut a random part of the whole photograph and
scale it to 224; the test takes the centre, 224 of 256. Before the first run each image is decoded
once, to check it and to compute the constants.
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
            workers=8,
            augment=Augment(resized_crop=0.08, flip=True),
        ),
        model=Model(name="resnet50"),
        optim=Optim(
            name="sgd",
            learning_rate=0.1,
            momentum=0.9,
            weight_decay=1e-4,
            schedule="step",
            milestones=(1 / 3, 2 / 3),
        ),
        train=Train(epochs=90),
    )
