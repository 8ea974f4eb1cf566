"""LeNet on scikit-learn's 1,797 handwritten digits of 8×8 pixels: the main job, in seconds.

    python -m experiments.train --config=lenet_digits

Twice LeNet's channels, padded convolutions (the images are too small for others), AdamW with a
cosine schedule, images moved by up to a pixel, label smoothing. Needs no download.
"""

from cnn_jax.config import Augment, Config, Data, Model, Optim, Train


def get_config() -> Config:
    """Returns the config."""
    return Config(
        data=Data(name="digits", batch_size=64, augment=Augment(crop_padding=1)),
        model=Model(name="lenet_same", width=2.0),
        optim=Optim(
            name="adamw", learning_rate=3e-3, weight_decay=1e-2, schedule="cosine", warmup=0.05
        ),
        train=Train(epochs=60, label_smoothing=0.1, eval_every=105, checkpoint_every=211),
    )
