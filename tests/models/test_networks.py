from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_jax.analysis.summary import summarize
from cnn_jax.models.registry import NETWORKS, build_model, variable_shapes
from tests.models.networks import CLASSES, make_images, make_variables, small_network, small_shape

# The smallest member of each family, with as few blocks as it can have.
FAMILIES = {
    "mnist_convnet": {},
    "lenet5": {},
    "cats_dogs": {},
    "alexnet": {"width": 1 / 32},
    "alexnet_owt": {},
    "vgg11": {"depths": (1, 1, 1, 1, 1), "batch_norm": True},
    "resnet18": {"depths": (1, 1, 1, 1)},
    "resnet50": {"depths": (1, 1, 1, 1)},
    "resnet20_cifar": {"depth": 8, "width": 0.25},
    "airbench": {},
    "wrn28_10": {"depth": 10, "width": 0.25, "dropout": 0.3},
}
# Deeper forms of networks that are here too: more of the same blocks, and long to trace.
DEEPER = {"vgg13", "vgg16", "vgg19", "resnet34", "resnet101", "resnet152"}
DEEPER |= {"resnet56_cifar", "resnet110_cifar"}
FAST_COMPILATION = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def _train_loss(model, variables, params, images):
    logits, updated = model.apply(
        {**variables, "params": params},
        images,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(0)},
    )
    loss = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.arange(len(images)) % CLASSES
    )
    return loss.mean(), (logits, updated.get("batch_stats", {}))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in DEEPER])
def test_every_network_can_be_applied_in_training(name):
    model, shape = small_network(name), small_shape(name)
    variables, images = variable_shapes(model, shape), make_images(shape)
    loss = partial(_train_loss, model)
    _, (logits, statistics) = jax.eval_shape(loss, variables, variables["params"], images)
    assert logits.shape == (2, CLASSES)
    expected = variables.get("batch_stats", {})
    assert jax.tree.map(jnp.shape, statistics) == jax.tree.map(jnp.shape, expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_the_same_under_vmap_and_see_the_image(name):
    model, shape = small_network(name, **FAMILIES[name]), small_shape(name)
    apply = partial(model.apply, make_variables(model, shape), train=False)

    @partial(jax.jit, compiler_options=FAST_COMPILATION)
    def run(images):
        return apply(images), jax.vmap(lambda image: apply(image[None])[0])(images)

    logits, one_by_one = map(np.asarray, run(make_images(shape)))
    assert np.isfinite(logits).all()
    assert not np.allclose(logits[0], logits[1], rtol=1e-3)
    np.testing.assert_allclose(one_by_one, logits, rtol=1e-4, atol=1e-5)


@pytest.fixture
def optax_promotes():
    """Adam divides by an integer count, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize(
    "name", [n for n in FAMILIES if n not in ("alexnet_owt", "resnet18", "resnet50", "airbench")]
)
def test_gradients_reach_all_parameters_and_loss_on_a_fixed_batch_goes_to_zero(name):
    options = {"width": 0.125, "kernel_init": "he_normal"} | FAMILIES[name]
    if name in ("alexnet", "cats_dogs", "vgg11", "wrn28_10"):
        options["dropout"] = 0.0
    model, shape = small_network(name, **options), small_shape(name)
    variables = make_variables(model, shape)
    images = make_images(shape, count=4)
    tx = optax.adam(1e-2)

    @partial(jax.jit, compiler_options=FAST_COMPILATION)
    def step(params, state):
        loss = partial(_train_loss, model, variables)
        (value, _), gradients = jax.value_and_grad(loss, has_aux=True)(params, images)
        updates, state = tx.update(gradients, state, params)
        norms = jax.tree.map(jnp.linalg.norm, gradients)
        return optax.apply_updates(params, updates), state, value, norms

    params, state = variables["params"], tx.init(variables["params"])
    for i in range(200):
        params, state, loss, norms = step(params, state)
        assert i or all(0 < norm < 1e6 for norm in jax.tree.leaves(norms)), norms
        if loss < 1e-2:
            return
    pytest.fail(f"the loss is still {loss}")


@pytest.mark.parametrize(
    ("name", "options"), [("vgg11", {"batch_norm": True}), ("wrn28_10", {"depth": 10})]
)
def test_half_precision_keeps_parameters_in_float32(name, options):
    model, shape = small_network(name, **options), small_shape(name)
    variables = make_variables(model, shape)
    images = jnp.asarray(make_images(shape)).astype(jnp.bfloat16)
    gradient = jax.grad(partial(_train_loss, model, variables), has_aux=True)
    gradients, (logits, statistics) = jax.eval_shape(gradient, variables["params"], images)
    assert logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((gradients, statistics))} == {jnp.dtype("f4")}


@pytest.mark.parametrize("name", ["resnet18", "resnet18_cifar", "resnet20_cifar", "wrn28_10"])
def test_a_single_pixel_is_enough_for_a_residual_network(name):
    model = small_network(name)
    variables = make_variables(model, (1, 1, 3))
    logits = jax.eval_shape(partial(model.apply, train=False), variables, make_images((1, 1, 3)))
    assert logits.shape == (2, CLASSES)


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        (
            "lenet5",
            "pad conv1 conv1_tanh pool1 conv2 conv2_tanh pool2 flatten dense1 dense1_tanh dense2 "
            "dense2_tanh logits",
        ),
        (
            "cats_dogs",
            "conv1 conv1_relu pool1 conv2 conv2_relu pool2 conv3 conv3_relu pool3 conv4 conv4_relu "
            "pool4 flatten dropout dense1 dense1_relu logits",
        ),
        (
            "alexnet",
            "conv1 conv1_relu norm1 pool1 conv2 conv2_relu norm2 pool2 conv3 conv3_relu conv4 "
            "conv4_relu conv5 conv5_relu pool5 flatten dense1 dense1_relu dense1_dropout dense2 "
            "dense2_relu dense2_dropout logits",
        ),
    ],
)
def test_every_operation_has_a_name(name, operations):
    rows = summarize(build_model(name, CLASSES), small_shape(name)).rows
    assert [row.name for row in rows] == operations.split()


@pytest.mark.parametrize(
    ("name", "block", "operations"),
    [
        ("resnet18", "conv3_1", "conv1 norm1 relu1 conv2 norm2 conv_shortcut norm_shortcut"),
        ("resnet20_cifar", "conv3_1", "conv1 norm1 relu1 conv2 norm2 shortcut"),
        ("resnet50", "conv2_2", "conv1 norm1 relu1 conv2 norm2 relu2 conv3 norm3"),
    ],
)
def test_every_operation_of_a_block_has_a_name(name, block, operations):
    rows = summarize(build_model(name, CLASSES), small_shape(name)).rows
    names = [row.name.partition("/")[2] for row in rows if row.name.startswith(f"{block}/")]
    assert names == [*operations.split(), "add", "relu"]
