"""The summary of a network against arithmetic done beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn_jax.analysis.features import layer_shapes
from cnn_jax.analysis.summary import flops, summarize
from cnn_jax.errors import InputError
from cnn_jax.layers import arithmetic, flatten
from cnn_jax.models.modules import (
    Activation,
    AvgPool,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
)
from cnn_jax.models.registry import build_model
from cnn_jax.models.residual import PadShortcut
from tests.analysis.small import SHAPE, Own


def _by_name(summary):
    return {row.name: row for row in summary.rows}


@pytest.fixture(scope="module")
def lenet():
    """LeNet-5 on 28×28 padded to 32×32."""
    return summarize(build_model("lenet", 10), (28, 28, 1))


@pytest.fixture(scope="module")
def vgg():
    return summarize(build_model("vgg16_cifar", 10), (32, 32, 3))


def test_rows_are_the_operations_in_order(lenet):
    kinds = [row.kind for row in lenet.rows]
    conv = ["Conv", "relu", "MaxPool"]
    assert kinds == ["ZeroPad", *conv, *conv, "Flatten", "Dense", "relu", "Dense", "relu", "Dense"]


def test_shapes_parameters_and_flops_of_lenet(lenet):
    expected = {  # output, parameters, FLOPs: a multiply-add is two, a bias one
        "pad": ((32, 32, 1), 0, 0),
        "conv1": ((28, 28, 6), 6 * 26, 28 * 28 * 6 * (2 * 25 + 1)),
        "conv1_relu": ((28, 28, 6), 0, 28 * 28 * 6),
        "pool1": ((14, 14, 6), 0, 14 * 14 * 6 * 4),
        "conv2": ((10, 10, 16), 16 * (150 + 1), 10 * 10 * 16 * (2 * 150 + 1)),
        "conv2_relu": ((10, 10, 16), 0, 1600),
        "pool2": ((5, 5, 16), 0, 5 * 5 * 16 * 4),
        "flatten": ((400,), 0, 0),
        "dense1": ((120,), 120 * 401, 120 * 801),
        "dense1_relu": ((120,), 0, 120),
        "dense2": ((84,), 84 * 121, 84 * 241),
        "dense2_relu": ((84,), 0, 84),
        "logits": ((10,), 850, 10 * 169),
    }
    found = {r.name: (r.output_shape, r.parameters, r.flops) for r in lenet.rows}
    assert found == expected
    total = lenet.as_json()["total"]
    assert total["parameters"] == total["trainable"] == 61706
    assert total["not_trainable"] == 0
    assert total["flops"] == sum(flops for _, _, flops in expected.values())
    outputs = sum(int(np.prod(shape)) for shape, _, _ in expected.values())
    assert total["activation_bytes"] == 4 * outputs


def test_a_dense_layer_counts_at_every_pixel_and_a_shortcut_without_weights_nowhere():
    assert flops(Dense(5), (4, 4, 3), (4, 4, 5)) == 16 * 5 * (2 * 3 + 1)
    assert flops(PadShortcut(8, 2), (4, 4, 3), (2, 2, 8)) == 0


def test_receptive_fields_of_lenet(lenet):
    rows = _by_name(lenet)
    chain = [(5,), (2, 2), (5,), (2, 2)]
    for length, name in enumerate(["conv1", "pool1", "conv2", "pool2"], start=1):
        size = arithmetic.receptive_field(chain[:length]).size
        assert rows[name].receptive_field == (size, size), name
    assert rows["pad"].receptive_field == (1, 1)
    assert rows["conv2_relu"].receptive_field == rows["conv2"].receptive_field
    assert rows["flatten"].receptive_field is rows["dense1"].receptive_field is None


def test_windows_and_strides_of_lenet(lenet):
    rows = _by_name(lenet)
    assert (rows["conv1"].kernel, rows["conv1"].stride) == ((5, 5), (1, 1))
    assert (rows["pool1"].kernel, rows["pool1"].stride) == ((2, 2), (2, 2))
    assert (rows["dense1"].kernel, rows["dense1"].stride) == (None, None)


def test_totals_of_vgg(vgg):
    widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    kernels = sum(9 * a * b for a, b in zip([3, *widths], widths, strict=False))
    total = vgg.as_json()["total"]
    assert total["trainable"] == kernels + 2 * sum(widths) + 512 * 10 + 10
    assert total["not_trainable"] == 2 * sum(widths)
    assert [row.kind for row in vgg.rows].count("BatchNorm") == 13
    assert all(row.flops is not None for row in vgg.rows)


def test_receptive_fields_of_vgg(vgg):
    rows, chain = _by_name(vgg), []
    for block, depth in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(1, depth + 1):
            chain.append((3,))
            size = arithmetic.receptive_field(chain).size
            for name in (f"conv{block}_{i}", f"conv{block}_{i}_norm", f"conv{block}_{i}_relu"):
                assert rows[name].receptive_field == (size, size), name
        chain.append((2, 2))
        size = arithmetic.receptive_field(chain).size
        assert rows[f"pool{block}"].receptive_field == (size, size)


class Branches(nn.Module):
    """Two ways from one input, meeting in a sum."""

    @nn.compact
    def __call__(self, x, *, train):
        x = Conv(4, (3, 5), stride=(1, 2), name="stem")(x)
        wide = Conv(4, (3, 3), dilation=2, groups=2, use_bias=False, name="wide")(x)
        narrow = Conv(4, (1, 1), name="narrow")(x)
        x = Activation("relu", name="meet")(wide + narrow)
        x = AvgPool((2, 1), stride=1, name="pool")(x)
        x = Dropout(0.5, name="dropout")(x, train=train)
        return GlobalAvgPool(name="mean")(x)


def test_branches_strides_dilation_and_groups():
    rows = _by_name(summarize(Branches(), (8, 8, 2)))
    assert rows["stem"].output_shape == (8, 4, 4)
    assert rows["stem"].receptive_field == (3, 5)
    assert rows["wide"].receptive_field == (3 + 2 * 2, 5 + 2 * 2 * 2)
    assert rows["wide"].flops == 8 * 4 * 4 * 2 * 9 * 2
    assert rows["wide"].parameters == 9 * 2 * 4
    assert rows["narrow"].receptive_field == (3, 5)
    assert rows["pool"].receptive_field == (8, rows["wide"].receptive_field[1])
    assert rows["dropout"].flops == 0
    assert rows["dropout"].output_shape == (7, 4, 4)
    assert rows["mean"].flops == 7 * 4 * 4
    assert rows["mean"].receptive_field is None


def test_the_sums_agree_with_the_variables():
    model = build_model("vgg11", 3, batch_norm=True)
    summary = summarize(model, (32, 32, 1))
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False)
    )
    sizes = {k: sum(v.size for v in jax.tree.leaves(t)) for k, t in variables.items()}
    assert (summary.trainable, summary.not_trainable) == (sizes["params"], sizes["batch_stats"])
    assert sum(row.parameters for row in summary.rows) == sizes["params"]


def test_a_module_called_twice_has_two_rows_and_its_parameters_once():
    summary = summarize(Own(), SHAPE)
    rows = _by_name(summary)
    assert list(rows) == ["shared", "shared:2", "logits"]
    assert (rows["shared"].parameters, rows["shared:2"].parameters) == (3 * 3 * 3 * 3, 0)
    assert sum(row.parameters for row in summary.rows) == summary.trainable


class Bare(nn.Module):
    """A network of one module, which has all the parameters."""

    @nn.compact
    def __call__(self, x, *, train):
        return flatten(x) @ self.param("kernel", nn.initializers.ones, (16, 3))


class Sum(nn.Module):
    def __call__(self, parts, *, scale):
        return scale * sum(parts)


class Scale(nn.Module):
    """A value that depends on no image."""

    @nn.compact
    def __call__(self):
        return self.param("value", nn.initializers.ones, ())


class Called(nn.Module):
    """Modules that take their arrays in a list, by keyword, and not at all."""

    @nn.compact
    def __call__(self, x, *, train):
        scale = Scale(name="scale")()
        left, right = (Conv(2, (3, 3), use_bias=False, name=name)(x) for name in ("a", "b"))
        return Flatten(name="flatten")(x=Sum(name="sum")([left, right], scale=scale))


@pytest.mark.parametrize(
    ("model", "names"),
    [(Bare(), ["Bare"]), (Called(), ["scale", "a", "b", "sum", "flatten"])],
)
def test_however_modules_are_called_all_have_a_row(model, names):
    summary = summarize(model, (4, 4, 1))
    assert [row.name for row in summary.rows] == names
    assert sum(row.parameters for row in summary.rows) == summary.trainable
    assert [*layer_shapes(model, (4, 4, 1))] == names


class Unknown(nn.Module):
    """Has a module of Flax's own."""

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(2, name="theirs")(Flatten(name="flatten")(x))


def test_a_module_not_known_counts_its_parameters_and_no_flops():
    summary = summarize(Unknown(), (2, 2, 1))
    row = _by_name(summary)["theirs"]
    assert (row.kind, row.parameters, row.flops) == ("Dense", 10, None)
    assert summary.flops == 0


def test_images_too_small_are_refused_with_the_layer():
    with pytest.raises(InputError, match=r"16×16×3.*pool5"):
        summarize(build_model("vgg16", 10), (16, 16, 3))
