import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.errors import InvalidRngError

from cnn_jax import layers
from cnn_jax.errors import InputError
from cnn_jax.models import modules
from tests.models.networks import make_images, make_variables

SHAPE = (6, 6, 4)
IMAGES = make_images(SHAPE)


@pytest.mark.parametrize(
    ("module", "reference"),
    [
        (
            modules.Conv(6, (3, 3), stride=2, padding=1, groups=2),
            nn.Conv(6, (3, 3), strides=2, padding=1, feature_group_count=2),
        ),
        (
            modules.Conv(5, (3, 2), dilation=2, padding="SAME", use_bias=False),
            nn.Conv(5, (3, 2), kernel_dilation=2, padding="SAME", use_bias=False),
        ),
        (modules.Dense(5), nn.Dense(5)),
        (modules.Dense(5, use_bias=False), nn.Dense(5, use_bias=False)),
    ],
)
def test_parameters_and_results_are_those_of_flaxs_own_modules(module, reference):
    key = jax.random.key(0)
    variables = module.init(key, IMAGES)
    theirs = jax.eval_shape(reference.init, key, IMAGES)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, theirs)
    np.testing.assert_allclose(
        module.apply(variables, IMAGES), reference.apply(variables, IMAGES), atol=1e-5
    )


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (modules.Conv(3, (1, 1), bias_init="ones"), "bias", 1.0),
        (modules.Dense(3, kernel_init="zeros"), "kernel", 0.0),
        (modules.Dense(3, kernel_init=nn.initializers.constant(7.0)), "kernel", 7.0),
        (modules.Dense(3), "bias", 0.0),
    ],
)
def test_initializers_are_names_or_functions(module, name, value):
    params = module.init(jax.random.key(0), IMAGES)["params"]
    assert (params[name] == value).all()


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_is_flaxs(train):
    ours = modules.BatchNorm(momentum=0.8, epsilon=1e-3)
    theirs = nn.BatchNorm(use_running_average=not train, momentum=0.8, epsilon=1e-3)
    variables = {
        "params": {"scale": jnp.array([1.0, 2, 3, 4]), "bias": jnp.array([0.0, 1, 2, 3])},
        "batch_stats": {"mean": jnp.array([0.1, 0, 0, 1]), "var": jnp.array([1.0, 2, 1, 1])},
    }
    y, updated = ours.apply(variables, IMAGES, train=train, mutable=["batch_stats"])
    expected, their_update = theirs.apply(variables, IMAGES, mutable=["batch_stats"])
    np.testing.assert_allclose(y, expected, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        updated["batch_stats"],
        their_update["batch_stats"],
    )


def test_batch_norm_starts_with_neutral_statistics_even_in_training():
    variables = modules.BatchNorm().init(jax.random.key(0), IMAGES, train=True)
    assert (variables["batch_stats"]["mean"] == 0).all()
    assert (variables["batch_stats"]["var"] == 1).all()


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (modules.MaxPool(), layers.max_pool(IMAGES, window=2)),
        (modules.MaxPool((3, 3), 2, 1), layers.max_pool(IMAGES, window=3, stride=2, padding=1)),
        (modules.AvgPool((3, 2)), layers.avg_pool(IMAGES, window=(3, 2))),
        (modules.GlobalAvgPool(), IMAGES.mean((1, 2))),
        (modules.Activation("tanh"), jnp.tanh(IMAGES)),
        (modules.Flatten(), IMAGES.reshape(2, -1)),
        (modules.ZeroPad(1), jnp.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)))),
        (modules.ResponseNorm(3), layers.local_response_norm(IMAGES, size=3)),
    ],
)
def test_modules_without_parameters_call_their_layer(module, expected):
    assert module.init(jax.random.key(0), IMAGES) == {}
    np.testing.assert_allclose(module.apply({}, IMAGES), expected, atol=1e-6)


def test_add_adds():
    np.testing.assert_array_equal(modules.Add().apply({}, IMAGES, IMAGES), 2 * IMAGES)


@pytest.mark.parametrize("module", [modules.Dropout(0.5), modules.DropPath(0.5)])
def test_dropping_needs_a_key_in_training_alone(module):
    many = jnp.ones((64, 2, 2, 3))
    np.testing.assert_array_equal(module.apply({}, many, train=False), many)
    with pytest.raises(InvalidRngError):
        module.apply({}, many, train=True)
    dropped = module.apply({}, many, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(dropped)) == {0.0, 2.0}


@pytest.mark.parametrize("module", [modules.Dropout, modules.DropPath])
def test_a_rate_may_be_traced_and_zero_needs_no_key(module):
    np.testing.assert_array_equal(module(0.0).apply({}, IMAGES, train=True), IMAGES)
    rngs = {"dropout": jax.random.key(0)}
    run = jax.jit(lambda rate: module(rate).apply({}, IMAGES, train=True, rngs=rngs))
    np.testing.assert_array_equal(run(0.0), IMAGES)
    assert (run(0.9) == 0).mean() > 0.4


class Head(nn.Module):
    """A classifier alone."""

    @nn.compact
    def __call__(self, x, *, train):
        return modules.classifier(
            modules.Flatten()(x), 3, hidden=(5, 4), dropout=0.5, bias_init="ones", train=train
        )


def test_the_classifier_names_its_layers_and_leaves_the_last_biases_at_zero():
    params = Head().init(jax.random.key(0), IMAGES, train=False)["params"]
    assert {name: p["kernel"].shape for name, p in params.items()} == {
        "dense1": (144, 5),
        "dense2": (5, 4),
        "logits": (4, 3),
    }
    assert [float(p["bias"].sum()) for p in params.values()] == [5, 4, 0]


def test_the_classifier_is_a_chain_of_dense_layers():
    variables = make_variables(Head(), SHAPE)
    x = np.asarray(IMAGES).reshape(2, -1)
    for name in ("dense1", "dense2", "logits"):
        p = variables["params"][name]
        x = x @ np.asarray(p["kernel"]) + np.asarray(p["bias"])
        x = x if name == "logits" else np.maximum(x, 0)
    np.testing.assert_allclose(Head().apply(variables, IMAGES, train=False), x, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((64, 1.0), {}, 64),
        ((64, 0.5), {}, 32),
        ((3, 0.01), {}, 1),
        ((16, 10.0), {}, 160),
        ((96, 0.01), {"multiple_of": 2}, 2),
    ],
)
def test_channels_scale_to_whole_groups(arguments, options, expected):
    assert modules.scale_channels(*arguments, **options) == expected


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_a_width_that_is_none_is_refused(width):
    with pytest.raises(InputError, match="width must be above zero"):
        modules.scale_channels(64, width)


@pytest.mark.parametrize("groups", [0, 2, 4])
def test_channels_that_groups_cannot_split_are_refused_before_a_kernel_is_drawn(groups):
    module = modules.Conv(8, (3, 3), groups=groups)
    with pytest.raises(ValueError, match=f"3 channels cannot be split into {groups} groups"):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))


def test_a_batch_that_ghost_batch_norm_cannot_split_is_refused():
    module, images = modules.BatchNorm(), jnp.zeros((5, 2, 2, 3))
    variables = module.init(jax.random.key(0), images, train=False)
    with (
        modules.batch_norm_over(groups=2),
        pytest.raises(ValueError, match="a batch of 5 cannot be split into 2 equal groups"),
    ):
        module.apply(variables, images, train=True, mutable=["batch_stats"])


def test_ghost_batch_norm_normalises_each_group_and_keeps_the_mean_of_their_statistics():
    module = modules.BatchNorm(momentum=0.8)
    variables = module.init(jax.random.key(0), IMAGES, train=False)
    halves = jnp.split(IMAGES, 2)

    def apply(x, **over):
        with modules.batch_norm_over(**over):
            return module.apply(variables, x, train=True, mutable=["batch_stats"])

    y, updated = apply(IMAGES, groups=2)
    (one, one_updated), (other, other_updated) = (apply(half) for half in halves)
    np.testing.assert_allclose(y, jnp.concatenate([one, other]), rtol=1e-6, atol=1e-6)
    means = jax.tree.map(lambda a, b: (a + b) / 2, one_updated, other_updated)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updated, means)
    assert jnp.abs(y - apply(IMAGES)[0]).max() > 1e-3


def test_batch_norm_over_a_mapped_axis_is_that_of_the_whole_batch():
    module = modules.BatchNorm()
    variables = module.init(jax.random.key(0), IMAGES, train=False)

    def apply(x, **over):
        with modules.batch_norm_over(**over):
            return module.apply(variables, x, train=True, mutable=["batch_stats"])

    spread = jax.vmap(lambda x: apply(x, axis_name="axis"), axis_name="axis")
    y, updated = spread(IMAGES.reshape(2, -1, *IMAGES.shape[1:]))
    whole, expected = apply(IMAGES)
    np.testing.assert_allclose(y.reshape(IMAGES.shape), whole, rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(updated), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-5, atol=1e-7)
