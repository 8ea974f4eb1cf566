"""Cats and dogs from 2,000 photographs without augmentation: the story of overfitting.

    python -m experiments.train --config=cats_dogs_plain --config.data.dir=DIR

DIR holds train/cats, train/dogs, test/cats and test/dogs. Four convolutions, dropout, dense 512 on
150×150 pixels: 5,550,786 parameters. Published: training accuracy goes to 100% while that of
validation stops at about 73%. Measured, one seed: training 100%, validation 78% (its loss lowest
after 9 epochs, twice that at the end), test 76.0%.
"""

from cnn_jax.config import Config, Data, Model, Optim, Train


def get_config() -> Config:
    """Returns the config."""
    return Config(
        data=Data(
            name="image_folder",
            class_names=("cats", "dogs"),
            image_size=150,
            batch_size=32,
            eval_batch_size=100,
            validation_fraction=0.1,
            normalization="unit",
        ),
        model=Model(name="cats_dogs"),
        optim=Optim(name="adam", learning_rate=5e-4, epsilon=1e-7),
        train=Train(epochs=30),
    )
