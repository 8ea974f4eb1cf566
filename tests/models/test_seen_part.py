"""What a network sees of an image: the rest is cut off before it is trained or asked."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from cnn_jax.models.convnet import ConvNet
from cnn_jax.models.modules import SingleLogit
from cnn_jax.models.registry import build_model, seen_part
from cnn_jax.training.losses import cross_entropy, of_labels
from cnn_jax.training.state import create_train_state
from cnn_jax.training.step import make_logits_fn, make_train_step

# Options of a ConvNet, the image's size, and what is seen of it.
CASES = [
    ({"pooled": (True, True, False)}, (28, 28), (26, 26)),  # mnist_convnet
    ({"pooled": (True, True)}, (32, 33), (30, 30)),  # cifar_tutorial
    ({"pooled": (True, True)}, (30, 31), (30, 30)),
    ({"pooled": (False, False)}, (9, 12), (9, 12)),
    ({"pooled": (False, True), "window": 2}, (8, 9), (8, 8)),
    ({"pooled": (True, True), "window": 1}, (9, 11), (8, 8)),
    ({"pooled": (True, True), "padding": "SAME"}, (9, 9), (9, 9)),
    ({"pooled": (True, True), "zero_padding": 2}, (9, 10), (9, 10)),
]


def _network(pooled, **options):
    return ConvNet(num_classes=3, features=(2,) * len(pooled), pooled=pooled, **options)


@pytest.mark.parametrize(("options", "size", "seen"), CASES)
def test_logits_depend_on_what_is_seen_and_on_nothing_else(options, size, seen):
    # Ones as weights and tanh around zero: what is seen at all has a positive gradient.
    model = _network(**options, pooling="avg", activation="tanh")
    image = jnp.zeros((1, *size, 1))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    ones = jax.tree.map(lambda leaf: jnp.full(leaf.shape, float(leaf.ndim > 1)), shapes)
    answer = jax.grad(lambda image: model.apply(ones, image, train=False).sum())
    gradient = np.asarray(jax.jit(answer)(image))[0, ..., 0]
    inside = np.zeros(size, bool)
    inside[: seen[0], : seen[1]] = True
    assert seen_part(model, image).shape == (1, *seen, 1)
    assert not gradient[~inside].any()
    if not options.keys() & {"padding", "zero_padding"}:  # padded images are left whole
        assert (gradient[inside] > 0).all()


class Whole(nn.Module):
    """A network in whose place this stands, and which does not say what it sees."""

    network: nn.Module

    def setup(self):
        nn.share_scope(self, self.network)

    def __call__(self, x, *, train):
        return self.network(x, train=train)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_steps_and_logits_are_those_of_whole_images(pooling):
    model = _network((True, True), pooling=pooling, dropout=0.5, hidden=(4,))
    images = jax.random.normal(jax.random.key(0), (4, 12, 13, 1))
    assert seen_part(model, images).shape == (4, 10, 10, 1)
    whole = Whole(model)
    assert seen_part(whole, images).shape == images.shape
    variables = model.init(jax.random.key(1), images, train=False)
    batch, tx = {"image": images, "label": jnp.array([0, 1, 2, 0])}, optax.sgd(0.5)

    def run(network):
        step = make_train_step(network, tx, of_labels(cross_entropy), lambda key, batch: batch)
        new, sums = step(create_train_state(variables, tx), batch, jax.random.key(2))
        logits = make_logits_fn(network, lambda images: images)(variables, images)
        return new.params, sums, logits

    same = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(same, *jax.jit(lambda: (run(model), run(whole)))())


def test_two_classes_with_one_logit_see_as_much():
    network = build_model("mnist_convnet", 2, single_logit=True)
    assert isinstance(network, SingleLogit)
    assert seen_part(network, jnp.ones((1, 28, 28, 1))).shape == (1, 26, 26, 1)


@pytest.mark.parametrize("name", ["lenet", "resnet20_cifar", "cats_dogs"])
def test_networks_that_see_all_get_images_whole(name):
    assert seen_part(build_model(name, 10), jnp.ones((1, 32, 32, 3))).shape == (1, 32, 32, 3)


class Dense(nn.Module):
    """A network of vectors."""

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(3)(x)


def test_a_network_of_vectors_gets_them_whole():
    vectors = jnp.ones((4, 5))
    assert seen_part(Dense(), vectors) is vectors
