"""A network and a run that compile in a moment and still hold all that resuming could lose."""

from flax import linen as nn

from cnn_jax.config import Augment, Config, Data, Model, Optim, Train
from cnn_jax.models.modules import Activation, BatchNorm, Conv, Dense, Dropout, Flatten
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.setup import abstract_state, build_experiment


class Tiny(nn.Module):
    """One convolution with batch norm and dropout."""

    num_classes: int
    dropout: float = 0.3

    @nn.compact
    def __call__(self, x, *, train):
        x = Conv(4, (3, 3), stride=2, use_bias=False, name="conv")(x)
        x = BatchNorm(name="norm")(x, train=train)
        x = Activation("relu", name="relu")(x)
        x = Flatten(name="flatten")(x)
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return Dense(self.num_classes, name="logits")(x)


def tiny_config(**train):
    """Returns a run of 2.7 epochs of the digits, whose batches run from one into the next."""
    fields = {
        "steps": 12,
        "log_every": 2,
        "eval_every": 4,
        "checkpoint_every": 4,
        "pictures": False,
    }
    return Config(
        name="tiny",
        data=Data(batch_size=304, augment=Augment(crop_padding=1, flip=True)),
        model=Model(name="tiny"),
        optim=Optim(learning_rate=0.05, momentum=0.9, schedule="cosine", warmup=0.2),
        train=Train(label_smoothing=0.1, **fields | train),
        devices=1,
    )


def saved_state(workdir, config, which="last"):
    """Returns the step and the state of a run's checkpoint."""
    experiment = build_experiment(config)
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.find(which)
        return step, checkpoints.restore(step, abstract_state(experiment))
