"""A network that compiles in a moment, and one whose author writes modules of their own."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cnn_jax import layers
from cnn_jax.models.convnet import ConvNet
from cnn_jax.models.modules import Activation, BatchNorm, Conv, Dense, Flatten, MaxPool
from tests.models.networks import make_variables

SHAPE, CLASSES = (8, 8, 3), 3


class Small(nn.Module):
    """Two convolutions, pooling between them, one dense layer."""

    activation: str = "relu"

    @nn.compact
    def __call__(self, x, *, train):
        x = Conv(4, (3, 3), name="conv1")(x)
        x = BatchNorm(name="norm1")(x, train=train)
        x = Activation(self.activation, name="act1")(x)
        x = MaxPool(name="pool")(x)
        x = Conv(6, (3, 3), padding="VALID", name="conv2")(x)
        x = Activation(self.activation, name="act2")(x)
        return Dense(CLASSES, name="logits")(Flatten(name="flatten")(x))


class OwnLayer(nn.Module):
    """A user's module that calls our layers, twice in its network."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", layers.initializer("he_normal"), (3, 3, 3, 3))
        return layers.relu(layers.conv2d(x, kernel))


class Own(nn.Module):
    """Calls one module two times, and computes outside of modules too."""

    @nn.compact
    def __call__(self, x, *, train):
        shared = OwnLayer(name="shared")
        x = 2 * shared(shared(x))
        return Dense(CLASSES, name="logits")(layers.global_avg_pool(x))


MODEL = Small()
VARIABLES = make_variables(MODEL, SHAPE, seed=5)  # of which no class's Grad-CAM is empty
LISTED = ConvNet(CLASSES, features=[4], pooled=[True])  # lists have no hash, nor so has the model
LISTED_VARIABLES = make_variables(LISTED, SHAPE)
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(3, *SHAPE)), jnp.float32)
LABELS = jnp.array([0, 2, 1])


def prepare(images):
    """A preparation that can be told from none."""
    return (images - 0.4) / 0.25


@jax.jit
def scores(images):
    """The logits of the classes, computed plainly."""
    logits = MODEL.apply(VARIABLES, prepare(images), train=False)
    return logits[jnp.arange(len(LABELS)), LABELS]
