from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn_jax.analysis.features import (
    activation,
    activations,
    layer_shapes,
    match_layers,
    with_offset,
)
from cnn_jax.analysis.operations import operations
from cnn_jax.errors import InputError
from cnn_jax.layers import conv2d, relu
from cnn_jax.models.modules import Dense
from tests.analysis.small import IMAGES, MODEL, SHAPE, VARIABLES, Own, OwnLayer, prepare
from tests.models.networks import make_variables, small_network


def test_every_layer_is_seen_under_its_name_in_order():
    found = activations(MODEL, VARIABLES, IMAGES, prepare=prepare)
    assert list(found) == [each.name for each in operations(MODEL, SHAPE)]
    assert layer_shapes(MODEL, SHAPE) == {name: a.shape[1:] for name, a in found.items()}
    logits = MODEL.apply(VARIABLES, prepare(IMAGES), train=False)
    np.testing.assert_array_equal(found["logits"], logits)
    conv1 = VARIABLES["params"]["conv1"]
    expected = conv2d(prepare(IMAGES), conv1["kernel"], conv1["bias"])
    np.testing.assert_allclose(found["conv1"], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["resnet20_cifar", "vgg16_cifar", "wrn28_10"])
def test_layers_of_the_registry_are_those_of_the_summary(name):
    model = small_network(name)
    found = operations(model, (32, 32, 3))
    shapes = {each.name: each.output_shape for each in found}
    assert list(layer_shapes(model, (32, 32, 3)).items()) == list(shapes.items())


def test_a_users_own_modules_are_seen_each_time_they_are_called():
    model = Own()
    variables = make_variables(model, SHAPE)
    found = activations(model, variables, IMAGES)
    assert list(found) == ["shared", "shared:2", "logits"]
    kernel = variables["params"]["shared"]["kernel"]
    np.testing.assert_allclose(
        found["shared:2"], relu(conv2d(found["shared"], kernel)), rtol=1e-5, atol=1e-6
    )


class Transformed(nn.Module):
    """A network with a module inside of a transformation."""

    transform: Callable

    @nn.compact
    def __call__(self, x, *, train):
        x = OwnLayer(name="before")(x)
        x = self.transform(OwnLayer)(name="inside")(x)
        return Dense(3, name="logits")(OwnLayer(name="behind")(x).mean((1, 2)))


@pytest.mark.parametrize("transform", [nn.remat, nn.jit])
def test_layers_inside_of_a_transformation_are_left_out(transform):
    """Their outputs would be tracers that no one can use."""
    model = Transformed(transform)
    variables = make_variables(model, SHAPE)
    found = activations(model, variables, IMAGES)
    assert list(found) == ["before", "behind", "logits"]
    np.testing.assert_array_equal(found["logits"], model.apply(variables, IMAGES, train=False))
    compiled = jax.jit(partial(activations, model))(variables, IMAGES)
    assert compiled.keys() == found.keys()
    message = "unknown layer 'inside'.* Known: before, behind, logits"
    with pytest.raises(InputError, match=message):
        activation(model, variables, IMAGES, layer="inside")
    with pytest.raises(InputError, match=message):
        with_offset(model, variables, IMAGES, jnp.zeros((3, 1)), layer="inside")


def test_up_to_a_layer_images_may_have_any_size_under_jit_and_vmap():
    larger = jax.image.resize(IMAGES, (3, 12, 10, 3), "linear")
    see = partial(activation, MODEL, layer="act2", prepare=prepare)
    found = jax.jit(see)(VARIABLES, larger)
    assert found.shape == (3, 4, 3, 6)
    each = jax.vmap(see, (None, 0))(VARIABLES, larger[:, None])
    np.testing.assert_allclose(each[:, 0], found, rtol=1e-5, atol=1e-6)


def test_the_gradient_by_an_offset_is_that_by_the_layers_output():
    maps = activation(MODEL, VARIABLES, IMAGES, layer="act2")
    run = lambda offset: with_offset(MODEL, VARIABLES, IMAGES, offset, layer="act2")
    gradient = jax.grad(lambda offset: run(offset)[0][:, 1].sum())(jnp.zeros_like(maps))
    weights = VARIABLES["params"]["logits"]["kernel"][:, 1].reshape(maps.shape[1:])
    np.testing.assert_allclose(gradient, np.broadcast_to(weights, maps.shape), rtol=1e-6)
    np.testing.assert_array_equal(run(jnp.ones_like(maps))[1], maps)


def test_a_layer_that_is_not_there_is_refused_with_those_that_are():
    message = r"unknown layer 'conv3'; did you mean 'conv[12]'\? Known: act1, .*pool"
    with pytest.raises(InputError, match=message):
        activation(MODEL, VARIABLES, IMAGES, layer="conv3")
    with pytest.raises(InputError, match=message):
        with_offset(MODEL, VARIABLES, IMAGES, jnp.zeros((3, 1)), layer="conv3")
    with pytest.raises(InputError, match=message):
        match_layers("conv3", layer_shapes(MODEL, SHAPE))
    with pytest.raises(InputError, match="no regular expression"):
        match_layers("conv(", ["conv1"])
