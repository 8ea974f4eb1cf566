"""The convolution primitive against XLA's convolution, whichever way it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnn_jax.layers import (
    conv,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose2d,
    conv_transpose3d,
    cpu_conv,
    cpu_groups,
    cpu_patches,
    cpu_winograd,
)
from cnn_jax.layers.conv_primitive import KERNEL, Geometry, X, Y
from tests.layers.checks import assert_close, derivatives, lowered, random


def stock(x, kernel, pairs, strides=(1, 1), groups=1, dilations=(1, 1)):
    spatial = "DHW"[-len(pairs) :]
    numbers = f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"
    options = {"dimension_numbers": numbers, "feature_group_count": groups}
    return lax.conv_general_dilated(x, kernel, strides, pairs, rhs_dilation=dilations, **options)


def gradients(x, kernel):
    y, pull = jax.vjp(lambda *a: conv2d(*a, padding="SAME"), x, kernel)
    return pull(y)


@pytest.fixture(params=["_by_patches", "_by_winograd", "_stock"])
def way(request, monkeypatch):
    monkeypatch.setattr(cpu_conv, "_way_on_cpu", lambda **_: getattr(cpu_conv, request.param))
    jax.clear_caches()
    yield
    jax.clear_caches()


def check_random_geometry(data, windows, channels):
    draw = lambda low, high: data.draw(st.integers(low, high))
    window = draw(*windows), draw(*windows)
    pairs = tuple((draw(0, f - 1), draw(0, f - 1)) for f in window)
    sizes = [max(1, f - sum(pair)) + draw(0, 7) for f, pair in zip(window, pairs, strict=True)]
    x = jnp.asarray(random(draw(1, 6), *sizes, draw(*channels)))
    kernel = jnp.asarray(random(*window, x.shape[-1], draw(*channels), seed=1))
    assert cpu_conv.fits(x, kernel, Geometry(pairs))
    both = jax.jit(
        lambda *a: [
            derivatives(conv)(*a)
            for conv in (
                lambda *a: conv2d(*a, padding=pairs),
                lambda *a: stock(*a, pairs),
            )
        ]
    )
    assert_close(*both(x, kernel), 3e-5)


@pytest.mark.parametrize(
    "way, cached, windows, channels",
    [
        ("_by_patches", 1, (1, 3), (1, 9)),  # so that small batches have several blocks
        ("_by_patches", 1000, (2, 5), (1, 4)),
        ("_by_patches", 1 << 20, (2, 3), (6, 20)),
        ("_by_winograd", 1, (3, 3), (1, 4)),
        ("_by_winograd", 100, (3, 3), (1, 4)),
        ("_along_rows", 1, (1, 4), (1, 4)),
        ("_by_taps", 1, (1, 3), (1, 4)),
        ("_by_extra_rows", 1, (1, 4), (1, 4)),
        ("_stock", 1, (1, 3), (1, 4)),
    ],
)
def test_any_geometry_is_xlas_convolution(way, cached, windows, channels, monkeypatch):
    def way_on_cpu(wanted, **_):
        none = way == "_by_extra_rows" and wanted == KERNEL
        return cpu_conv._stock if none else getattr(cpu_conv, way)

    monkeypatch.setattr(cpu_conv, "_way_on_cpu", way_on_cpu)
    monkeypatch.setattr(cpu_patches, "_CACHED", cached)
    for name in ("_TILES", "_CACHED", "_ROOM"):
        monkeypatch.setattr(cpu_winograd, name, cached)
    monkeypatch.setattr(cpu_winograd, "_FEW", 3)  # channels, some of those drawn are fewer
    jax.clear_caches()  # the lowering is remembered by shape
    settings(max_examples=2, deadline=None, derandomize=True, database=None)(
        given(st.data())(lambda data: check_random_geometry(data, windows, channels))
    )()
    jax.clear_caches()


def check_drawn(draw, window, steps, channels, *, images, room):
    """Checks a convolution whose padding and sizes are drawn; steps are strides and dilations."""
    (strides, dilations), (groups, per_group, outputs) = steps, channels
    spans = [(f - 1) * d for f, d in zip(window, dilations, strict=True)]
    pairs = tuple((draw(0, span), draw(0, span)) for span in spans)
    least = [max(1, n + 1 - sum(pair)) for n, pair in zip(spans, pairs, strict=True)]
    sizes = [n + draw(0, room) for n in least]
    x = jnp.asarray(random(draw(1, images), *sizes, groups * per_group))
    kernel = jnp.asarray(random(*window, per_group, groups * outputs, seed=1))
    geometry = Geometry(pairs, strides, groups, dilations)
    assert cpu_conv.fits(x, kernel, geometry)
    options = {"padding": pairs, "stride": strides, "groups": groups, "dilation": dilations}
    convs = (lambda *a: conv(*a, **options), lambda *a: stock(*a, *geometry))
    assert_close(*jax.jit(lambda *a: [derivatives(each)(*a) for each in convs])(x, kernel), 3e-5)


def check_any_strides_and_groups(data, way):
    draw = lambda low, high: data.draw(st.integers(low, high))
    dilated = way == "_dilated" or (way in ("_by_groups", "_depthwise") and draw(0, 1))
    strides, dilations = (draw(1, 4), draw(1, 4)), (1, 1)
    if dilated:
        strides, dilations = dilations, strides
    window = {
        "_as_product": lambda: (1, 1),
        "_by_folding": lambda: (draw(1, 6), draw(1, 6)),
    }.get(way, lambda: (draw(1, 5), draw(1, 5)))()
    groups, channels, outputs = {
        "_by_groups": (draw(2, 4), draw(2, 3), draw(1, 3)),
        "_depthwise": (draw(2, 6), 1, draw(1, 2)),
    }.get(way, (1, draw(1, 4), draw(1, 4)))
    check_drawn(draw, window, (strides, dilations), (groups, channels, outputs), images=3, room=9)


STRIDED = ["_by_phases", "_by_folding", "_as_product", "_in_steps"]


@pytest.mark.parametrize("way", [*STRIDED, "_by_groups", "_depthwise", "_dilated"])
def test_any_strides_and_groups_are_xlas_convolution(way, monkeypatch):
    usual, forced = cpu_conv._way_on_cpu, getattr(cpu_conv, way)

    def choose(**parameters):
        """The way for what is asked for, the usual ones for what it is made of."""
        plain = parameters["geometry"] == Geometry(((0, 0), (0, 0)))
        of_parts = way == "_by_groups" and parameters["geometry"].groups == 1
        return usual(**parameters) if plain or of_parts else forced

    monkeypatch.setattr(cpu_conv, "_way_on_cpu", choose)
    monkeypatch.setattr(cpu_groups, "_FEW", 3)  # so that both ways are taken
    jax.clear_caches()
    settings(max_examples=3, deadline=None, derandomize=True, database=None)(
        given(st.data())(lambda data: check_any_strides_and_groups(data, way))
    )()
    jax.clear_caches()


def check_any_volume(data, groups, per_group, outputs, moving):
    draw = lambda low, high: data.draw(st.integers(low, high))
    three = lambda low, high: tuple(draw(low, high) for _ in range(3))
    window, steps = three(1, 3), three(1, 3)
    strides, dilations = (steps, (1, 1, 1)) if moving else ((1, 1, 1), steps)
    channels = (groups, per_group, outputs)
    check_drawn(draw, window, (strides, dilations), channels, images=2, room=4)


@pytest.mark.parametrize("moving", [True, False])
@pytest.mark.parametrize("channels", [(1, 3, 2), (2, 2, 3), (3, 1, 2)])
def test_any_convolution_of_volumes_is_xlas(channels, moving):
    settings(max_examples=2, deadline=None, derandomize=True, database=None)(
        given(st.data())(lambda data: check_any_volume(data, *channels, moving))
    )()


@pytest.mark.parametrize("moving", [True, False])
@pytest.mark.parametrize("per_group", [1, 2])
def test_a_convolution_of_sequences_with_groups_is_xlas(per_group, moving):
    steps = {"strides": (2 if moving else 1,), "dilations": (1 if moving else 2,)}
    x = jnp.asarray(random(2, 9, 3 * per_group))
    kernel = jnp.asarray(random(3, per_group, 6, seed=1))
    options = {"stride": steps["strides"], "dilation": steps["dilations"], "groups": 3}
    pairs = ((1, 2),)
    convs = (
        lambda *a: conv1d(*a, padding=pairs, **options),
        lambda *a: stock(*a, pairs, groups=3, **steps),
    )
    everything = jax.jit(lambda *a: [derivatives(conv)(*a) for conv in convs])
    assert_close(*everything(x, kernel), 3e-5)
    assert "conv[" in str(jax.make_jaxpr(convs[0])(x, kernel))
    assert "group_count = 3" not in lowered(convs[0], x, kernel)
    assert "group_count = 3" in lowered(convs[0], x, kernel, platform="tpu")


def test_a_convolution_of_sequences_without_groups_is_xlas_own():
    program = jax.make_jaxpr(conv1d)(jnp.zeros((2, 9, 4)), jnp.zeros((3, 4, 2)))
    assert "conv_general_dilated" in str(program)


def test_a_transposed_convolution_of_volumes_is_xlas():
    x, kernel = jnp.asarray(random(2, 3, 2, 4, 2)), jnp.asarray(random(3, 2, 3, 2, 3, seed=1))
    pairs, stretch = ((1, 2), (1, 0), (0, 2)), (2, 1, 3)

    def xlas(x, kernel):
        numbers = ("NDHWC", "DHWIO", "NDHWC")
        options = {"lhs_dilation": stretch, "dimension_numbers": numbers}
        return lax.conv_general_dilated(x, kernel, (1, 1, 1), pairs, **options)

    ours = lambda *a: conv_transpose3d(*a, stride=stretch, padding=pairs)
    assert_close(*jax.jit(lambda *a: [derivatives(f)(*a) for f in (ours, xlas)])(x, kernel), 3e-5)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_volumes_are_planes_on_a_cpu_alone(groups):
    shapes = (2, 4, 6, 6, 8), (3, 3, 3, 8 // groups, 8)
    arrays = [jax.ShapeDtypeStruct(each, "float32") for each in shapes]
    program = jax.value_and_grad(lambda *a: conv3d(*a, groups=groups).sum(), (0, 1))
    assert "[b, 0, 1, 2, f]" not in lowered(program, *arrays)
    assert lowered(program, *arrays, platform="cuda").count("stablehlo.convolution") == 3


MAPS = {
    "images": (lambda f: jax.vmap(f, (0, None)), "Xk"),
    "kernels": (lambda f: jax.vmap(f, (None, 0), 1), "xK"),
    "both": (jax.vmap, "XK"),
    "images of kernels": (lambda f: jax.vmap(jax.vmap(f, (0, None)), (None, 0)), "XK"),
    "kernels of images": (lambda f: jax.vmap(jax.vmap(f, (None, 0)), (0, None)), "XK"),
    "kernels of both": (lambda f: jax.vmap(jax.vmap(f), (None, 0)), "XL"),
    "images of both": (lambda f: jax.vmap(jax.vmap(f), (0, None)), "YK"),
    "both of kernels": (lambda f: jax.vmap(jax.vmap(f, (None, 0))), "XL"),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("order", ["map of derivatives", "derivatives of map"])
def test_vmap_is_that_of_xlas_convolution(name, order):
    mapping, operands = MAPS[name]
    pairs = ((1, 0), (0, 1))
    shapes = {"x": (2, 3, 4, 2), "k": (2, 3, 2, 3)}
    shapes |= {"X": (3, *shapes["x"]), "K": (3, *shapes["k"])}
    shapes |= {"Y": (2, *shapes["X"]), "L": (3, *shapes["K"])}
    arrays = [jnp.asarray(random(*shapes[o], seed=i)) for i, o in enumerate(operands)]

    @jax.jit
    def both(*arrays):
        convs = (lambda *a: conv2d(*a, padding=pairs), lambda *a: stock(*a, pairs))
        if order == "map of derivatives":
            return [mapping(derivatives(conv))(*arrays) for conv in convs]
        return [derivatives(mapping(conv))(*arrays) for conv in convs]

    assert_close(*both(*arrays))


@settings(max_examples=4, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_any_transposed_convolution_is_xlas(data):
    draw = lambda low, high: data.draw(st.integers(low, high))
    window, stretch = (draw(1, 5), draw(1, 5)), (draw(1, 3), draw(2, 3))
    pairs = tuple((draw(0, f - 1), draw(0, f - 1)) for f in window)
    sizes = [f + draw(0, 3) for f in window]
    x = jnp.asarray(random(draw(1, 3), *sizes, draw(1, 4)))
    kernel = jnp.asarray(random(*window, x.shape[-1], draw(1, 4), seed=1))

    def xlas(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        options = {"lhs_dilation": stretch, "dimension_numbers": numbers}
        return lax.conv_general_dilated(x, kernel, (1, 1), pairs, **options)

    ours = lambda *a: conv_transpose2d(*a, stride=stretch, padding=pairs)
    assert "= conv[" in str(jax.make_jaxpr(ours)(x, kernel))
    assert_close(*jax.jit(lambda *a: [derivatives(f)(*a) for f in (ours, xlas)])(x, kernel), 3e-5)


def test_the_kernels_gradient_of_a_transposed_convolution_is_not_xlas_on_a_cpu():
    x, kernel = jnp.zeros((2, 8, 8, 16)), jnp.zeros((4, 4, 16, 8))

    def kernels_gradient(x, kernel):
        y, pull = jax.vjp(lambda kernel: conv_transpose2d(x, kernel, stride=2), kernel)
        return pull(jnp.ones_like(y))

    assert "dilate = [2" not in lowered(kernels_gradient, x, kernel)
    assert "dilate = [2" in lowered(kernels_gradient, x, kernel, platform="cuda")


def test_without_jit_a_convolution_is_what_it_is():
    x, kernel = jnp.asarray(random(2, 5, 5, 3)), jnp.asarray(random(3, 3, 3, 4, seed=1))
    expected = gradients(x, kernel)
    with jax.disable_jit():
        assert_close(gradients(x, kernel), expected)


def test_a_map_over_no_images_has_no_outputs():
    conv, kernel = jax.vmap(conv2d, (0, None)), jnp.ones((3, 3, 2, 4))
    assert conv(jnp.ones((0, 1, 4, 4, 2)), kernel).shape == (0, 1, 4, 4, 4)
    assert conv(jnp.ones((2, 0, 4, 4, 2)), kernel).shape == (2, 0, 4, 4, 4)


@pytest.mark.parametrize("name", ["images", "kernels", "both"])
def test_vmap_of_volumes(name):
    mapping, operands = MAPS[name]
    shapes = {"x": (2, 3, 3, 4, 2), "k": (2, 3, 2, 2, 3)}
    shapes |= {"X": (3, *shapes["x"]), "K": (3, *shapes["k"])}
    arrays = [jnp.asarray(random(*shapes[o], seed=i)) for i, o in enumerate(operands)]
    pairs = ((1, 0), (0, 1), (1, 1))
    ones = {"strides": (1, 1, 1), "dilations": (1, 1, 1)}
    convs = (lambda *a: conv3d(*a, padding=pairs), lambda *a: stock(*a, pairs, **ones))
    assert_close(*jax.jit(lambda *a: [mapping(derivatives(conv))(*a) for conv in convs])(*arrays))


VMAPPED = {
    "phases": ({"stride": (2, 1), "padding": ((1, 0), (0, 1))}, (3, 3, 4, 2)),
    "folding": ({"stride": 2, "padding": "VALID"}, (2, 2, 4, 2)),
    "dilated": ({"dilation": (1, 2), "padding": ((1, 1), (0, 3))}, (3, 3, 4, 2)),
    "one pixel": ({"stride": 2, "padding": "VALID"}, (1, 1, 4, 2)),
    "groups": ({"padding": "SAME", "groups": 2}, (3, 2, 2, 4)),
    "many groups": ({"padding": "SAME", "groups": 2}, (3, 2, 2, 4)),
    "depthwise": ({"padding": "SAME", "groups": 4}, (3, 2, 1, 8)),
    "strided groups": ({"padding": "SAME", "groups": 2, "stride": 2}, (3, 3, 2, 4)),
    "taps": ({"padding": "SAME"}, (2, 3, 4, 16)),
}


@pytest.mark.parametrize("name", VMAPPED)
@pytest.mark.parametrize("mapped", ["kernels", "images of both"])
def test_vmap_of_what_is_computed_for_all_members_at_once(name, mapped, monkeypatch):
    mapping, operands = MAPS[mapped]
    options, kernel = VMAPPED[name]
    monkeypatch.setattr(cpu_groups, "_FEW", 1 if name == "many groups" else 8)
    jax.clear_caches()
    shapes = {"x": (2, 5, 6, 4), "k": kernel}
    shapes |= {"X": (2, *shapes["x"]), "K": (2, *kernel)}
    shapes |= {"Y": (2, *shapes["X"])}
    arrays = [jnp.asarray(random(*shapes[o], seed=i)) for i, o in enumerate(operands)]

    @jax.jit
    def both(*arrays):
        ours = mapping(derivatives(lambda *a: conv2d(*a, **options)))(*arrays)
        # XLA's, in a type that is never ours
        with jax.enable_x64(True):
            wide = [a.astype(jnp.float64) for a in arrays]
            return ours, mapping(derivatives(lambda *a: conv2d(*a, **options)))(*wide)

    ours, expected = both(*arrays)
    assert_close(ours, jax.tree.map(np.float32, expected))


@pytest.mark.parametrize("name", ["images", "kernels", "both", "images of both"])
def test_members_whose_patches_are_too_many_take_turns(name, monkeypatch):
    mapping, operands = MAPS[name]
    shapes = {"x": (2, 6, 6, 8), "X": (2, 2, 6, 6, 8), "Y": (2, 2, 2, 6, 6, 8)}
    shapes |= {"k": (3, 3, 8, 4), "K": (2, 3, 3, 8, 4)}
    arrays = [jnp.asarray(random(*shapes[o], seed=i)) for i, o in enumerate(operands)]
    monkeypatch.setattr(cpu_patches, "_CACHED", 1)
    jax.clear_caches()
    convs = (lambda *a: conv2d(*a, padding="SAME"), lambda *a: stock(*a, ((1, 1), (1, 1))))
    assert_close(*jax.jit(lambda *a: [mapping(derivatives(conv))(*a) for conv in convs])(*arrays))
    jax.clear_caches()


@pytest.mark.parametrize(
    "shape, outputs", [((3, 5, 6, 1), 20), ((3, 5, 6, 12), 2), ((2, 4, 9, 3), 7)]
)
def test_the_kernels_gradient_of_short_and_of_long_patches(shape, outputs):
    x, pairs = jnp.asarray(random(*shape)), ((1, 1), (0, 1))
    dy = jnp.asarray(random(*shape[:2], shape[2] - 1, outputs, seed=1))

    @jax.jit
    def both(x, dy):
        pull = jax.vjp(lambda k: stock(x, k, pairs), jnp.ones((3, 3, shape[-1], outputs)))[1]
        return cpu_patches.kernel_gradient(x, dy, pairs), pull(dy)[0]

    assert_close(*both(x, dy))


@pytest.mark.parametrize(
    "shape, window, outputs, copied",
    [
        ((3, 5, 6, 1), (5, 5), 6, True),  # bands of 4 outputs, 8 numbers
        ((2, 4, 9, 3), (3, 3), 16, True),  # of 2, 12 numbers
        ((2, 3, 4, 8), (2, 3), 8, True),  # one output, 24 numbers
        ((3, 5, 6, 3), (3, 3), 6, False),
        ((2, 3, 4, 9), (2, 3), 9, False),
    ],
)
@pytest.mark.parametrize("pairs", [((1, 0), (0, 2)), ((0, 0), (0, 0))])
def test_patches_of_kind_lengths_are_copied_in_rows(shape, window, outputs, copied, pairs):
    x = jnp.asarray(random(*shape))
    kernel = jnp.asarray(random(*window, shape[-1], outputs, seed=1))
    x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    conv = lambda x: cpu_patches.forward(x, kernel, pairs)
    assert ("gather" in lowered(conv, x)) == copied

    @jax.jit
    def both(x):
        expected = stock(x, kernel, pairs)
        return [conv(x), jax.vmap(conv)(jnp.stack([x, -x]))[1]], [expected, -expected]

    assert_close(*both(x))


@pytest.mark.parametrize("cached", [1, 1 << 20])
def test_strided_patches_are_copied_in_rows_a_block_at_a_time(cached, monkeypatch):
    monkeypatch.setattr(cpu_patches, "_CACHED", cached)
    x, kernel = jnp.asarray(random(3, 6, 7, 8)), jnp.asarray(random(3, 3, 8, 9, seed=1))
    pairs, strides = ((1, 1), (0, 1)), (2, 3)
    conv = lambda *a: conv2d(*a, padding=pairs, stride=strides)
    xlas = lambda *a: stock(*a, pairs, strides)
    jax.clear_caches()
    assert "gather" in lowered(conv, x, kernel)
    assert_close(*jax.jit(lambda *a: [derivatives(f)(*a) for f in (conv, xlas)])(x, kernel))
    kernels = jnp.stack([kernel, -kernel])
    assert_close(*(jax.jit(jax.vmap(f, (None, 0)))(x, kernels) for f in (conv, xlas)))
    jax.clear_caches()


def test_gradient_of_a_gradient(way):
    x, kernel = jnp.asarray(random(2, 4, 4, 2)), jnp.asarray(random(3, 3, 2, 2, seed=1))
    pairs = ((1, 1), (1, 1))

    @jax.jit
    def both(*arrays):
        def norm(conv):
            inner = jax.grad(lambda *a: jnp.tanh(conv(*a)).sum(), (0, 1))
            return lambda *a: sum((g * g).sum() for g in inner(*a))

        convs = (conv2d, lambda *a: stock(*a, pairs))
        return [jax.grad(norm(conv), (0, 1))(*arrays) for conv in convs]

    assert_close(*both(x, kernel), 5e-5)


@pytest.mark.parametrize("shape", [(2, 5, 16, 16), (1, 3, 12, 20)])
@pytest.mark.parametrize("window", [(3, 3), (1, 2), (2, 1)])
def test_an_unpadded_output_is_taken_along_rows(shape, window):
    x, kernel = jnp.asarray(random(*shape)), jnp.asarray(random(*window, shape[-1], 24, seed=1))
    conv = lambda *a: conv2d(*a, padding="VALID")
    assert "[b, 0, f]x[0, i, o]->[b, 0, f]" in lowered(conv, x, kernel)
    assert_close(conv(x, kernel), stock(x, kernel, ((0, 0), (0, 0))))


# Image and channels, window and outputs, padding; what XLA is asked for in its place along columns,
# for the output and for the input's gradient.
ROWS = [
    ((2, 5, 6, 20), (3, 3, 20, 8), ((0, 0), (0, 0)), (0, 3), (2, 2)),  # the input's has enough
    ((2, 6, 5, 8), (3, 3, 8, 24), ((1, 1), (1, 1)), (1, 2), (1, 2)),
    ((1, 9, 8, 8), (4, 2, 8, 17), ((2, 0), (0, 1)), (2, 2), (1, 3)),
]


@pytest.mark.parametrize("shape, window, pairs, padding, of_input", ROWS)
def test_one_thread_is_avoided_by_rows_that_are_dropped(shape, window, pairs, padding, of_input):
    x, kernel = jnp.asarray(random(*shape)), jnp.asarray(random(*window, seed=1))
    conv = lambda *a: conv2d(*a, padding=pairs)
    gradient = jax.grad(lambda x, kernel: (conv(x, kernel) ** 2).sum())
    for function, rows in [(conv, padding), (gradient, of_input)]:
        assert f"pad = [[{rows[0]}, {rows[1]}]," in lowered(function, x, kernel)
    assert f"pad = [[{padding[0]}, {padding[1]}]," not in lowered(conv, x, kernel, platform="cuda")
    assert_close(conv(x, kernel), stock(x, kernel, pairs))


# batch, image and channels; window and outputs; padding; how the output, the kernel's gradient and
# the input's gradient are computed on a CPU
P, W, S = "_by_patches", "_by_winograd", "_stock"
M, R, T = "_by_extra_rows", "_along_rows", "_by_taps"
WAYS = [
    ((2, 2, 2, 512), (3, 3, 512, 512), "SAME", (P, S, P)),  # VGG's last block
    ((2, 32, 32, 64), (3, 3, 64, 64), "SAME", (W, W, W)),
    ((2, 16, 16, 8), (3, 3, 8, 32), "SAME", (M, W, M)),
    ((2, 16, 16, 8), (3, 3, 8, 16), "SAME", (S, W, S)),
    ((2, 16, 16, 128), (3, 3, 128, 128), "SAME", (W, W, W)),
    ((2, 4, 4, 256), (3, 3, 256, 512), "SAME", (W, W, W)),
    ((2, 5, 5, 64), (3, 3, 64, 64), "SAME", (M, P, M)),
    ((2, 3, 3, 64), (3, 3, 64, 64), "SAME", (P, P, P)),
    ((2, 14, 14, 50), (3, 3, 50, 50), "VALID", (W, W, R)),
    ((2, 15, 15, 50), (3, 3, 50, 50), "VALID", (M, W, R)),
    ((2, 13, 13, 64), (3, 3, 64, 64), "SAME", (M, W, M)),
    ((2, 13, 13, 192), (3, 3, 192, 192), "SAME", (W, W, W)),
    ((128, 60, 60, 32), (3, 3, 32, 64), "VALID", (W, W, S)),
    ((2, 16, 16, 128), (3, 3, 128, 128), "VALID", (W, W, W)),
    ((2, 13, 13, 16), (3, 3, 16, 32), "VALID", (R, W, S)),
    ((2, 13, 13, 16), (3, 3, 16, 16), "VALID", (S, W, S)),
    ((2, 13, 13, 24), (3, 3, 24, 16), "VALID", (M, W, R)),
    ((2, 5, 5, 32), (3, 3, 32, 64), "VALID", (P, P, P)),
    ((2, 5, 5, 64), (3, 3, 64, 64), "VALID", (M, P, P)),
    ((2, 28, 28, 1), (7, 7, 1, 4), "SAME", (P, P, P)),
    ((2, 14, 14, 4), (7, 7, 4, 4), "SAME", (P, S, P)),
    ((2, 14, 14, 4), (7, 7, 4, 4), "VALID", (P, P, P)),
    ((2, 32, 32, 1), (5, 5, 1, 6), "VALID", (P, P, P)),
    ((2, 14, 14, 6), (5, 5, 6, 16), "VALID", (P, P, P)),
    ((2, 32, 32, 3), (3, 3, 3, 16), "SAME", (T, P, P)),
    ((2, 32, 32, 3), (3, 3, 3, 32), "SAME", (P, P, P)),
    ((2, 28, 28, 1), (3, 3, 1, 16), "VALID", (T, P, P)),
    ((2, 28, 28, 1), (3, 3, 1, 12), "VALID", (P, P, P)),
    ((2, 32, 32, 16), (3, 3, 16, 16), "SAME", (S, W, S)),
    ((2, 32, 32, 16), (5, 5, 16, 16), "SAME", (S, S, R)),
    ((2, 16, 16, 16), (5, 5, 16, 64), "SAME", (M, P, R)),
    ((2, 16, 16, 64), (5, 1, 64, 16), "SAME", (M, P, M)),
    ((2, 32, 32, 32), (3, 3, 32, 1), "SAME", (P, W, P)),
    ((2, 8, 8, 16), (1, 1, 16, 16), "VALID", ("_as_product",) * 3),
]


@pytest.mark.parametrize("shape, window, padding, ways", WAYS)
def test_the_way_is_a_matter_of_shape(shape, window, padding, ways):
    pairs = tuple(((f - 1) // 2, f // 2) if padding == "SAME" else (0, 0) for f in window[:2])
    sizes = cpu_patches.output_sizes(shape, window[:2], pairs)
    shapes = (shape, window, (shape[0], *sizes, window[-1]))
    wanted = (Y, KERNEL, X)
    geometry = Geometry(pairs)
    chosen = [cpu_conv._way_on_cpu(wanted=w, shapes=shapes, geometry=geometry) for w in wanted]
    assert chosen == [getattr(cpu_conv, name) for name in ways]


PHASES, FOLDED = (S, *("_by_phases",) * 2), ("_by_folding",) * 3
IN_STEPS = ("_in_steps", *PHASES[1:])
MOVING = [
    ((2, 227, 227, 3), (11, 11, 3, 96), Geometry(((0, 0), (0, 0)), (4, 4)), FOLDED),  # AlexNet
    ((2, 224, 224, 3), (7, 7, 3, 64), Geometry(((3, 3), (3, 3)), (2, 2)), PHASES),  # ResNet
    ((2, 56, 56, 64), (3, 3, 64, 128), Geometry(((1, 1), (1, 1)), (2, 2)), IN_STEPS),
    ((2, 9, 9, 50), (3, 3, 50, 64), Geometry(((1, 1), (1, 1)), (2, 2)), PHASES),
    ((2, 56, 56, 64), (1, 1, 64, 128), Geometry(((0, 0), (0, 0)), (2, 2)), ("_as_product",) * 3),
    ((2, 56, 56, 96), (2, 2, 96, 192), Geometry(((0, 0), (0, 0)), (2, 2)), FOLDED),
    ((2, 27, 27, 96), (5, 5, 48, 256), Geometry(((2, 2), (2, 2)), groups=2), ("_by_groups",) * 3),
    (
        (2, 28, 28, 64),
        (3, 3, 64, 64),
        Geometry(((2, 2), (2, 2)), dilations=(2, 2)),
        ("_dilated",) * 3,
    ),
    ((2, 9, 9, 8), (13, 13, 1, 8), Geometry(((6, 6), (6, 6)), groups=8), (S,) * 3),
    ((2, 9, 9, 8), (3, 3, 1, 16), Geometry(((1, 1), (1, 1)), groups=8), ("_depthwise",) * 3),
]


@pytest.mark.parametrize("shape, window, geometry, ways", MOVING)
def test_the_way_is_a_matter_of_strides_and_groups(shape, window, geometry, ways):
    outputs = jax.eval_shape(
        lambda *a: stock(*a, *geometry),
        *(jax.ShapeDtypeStruct(each, "float32") for each in (shape, window)),
    )
    shapes = (shape, window, outputs.shape)
    wanted = (Y, KERNEL, X)
    chosen = [cpu_conv._way_on_cpu(wanted=w, shapes=shapes, geometry=geometry) for w in wanted]
    assert chosen == [getattr(cpu_conv, name) for name in ways]


@pytest.mark.parametrize("options", [{"stride": 3}, {"dilation": 3}, {"groups": 2}, {"groups": 8}])
def test_strides_and_groups_are_other_ways_on_a_cpu_alone(options):
    x = jax.ShapeDtypeStruct((2, 9, 9, 8), "float32")
    kernel = jax.ShapeDtypeStruct((3, 3, 8 // options.get("groups", 1), 16), "float32")

    def kernels_gradient(x, kernel):
        y, pull = jax.vjp(lambda kernel: conv2d(x, kernel, **options), kernel)
        return pull(jnp.ones_like(y))

    program = lowered(kernels_gradient, x, kernel)
    assert not any(word in program for word in ("stride = [3", "dilate = [3"))
    assert "group_count = 2" not in program and "group_count = 8" not in program
    for platform in ("cuda", "tpu"):
        program = lowered(kernels_gradient, x, kernel, platform=platform)
        assert program.count("stablehlo.convolution") == 1
        said = ("stride = [3", "dilate = [3", "_count = 2", "_count = 8")
        assert any(word in program for word in said)


def test_only_a_cpu_has_other_ways_than_xlas():
    shapes = (1, 8, 8, 32), (3, 3, 32, 32)
    arrays = [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]
    assert "stablehlo.convolution" not in lowered(gradients, *arrays)
    for platform in ("cuda", "tpu"):
        assert lowered(gradients, *arrays, platform=platform).count("stablehlo.convolution") == 3


def test_many_kernels_go_by_patches_on_a_cpu():
    x, kernels = jnp.zeros((2, 8, 8, 8)), jnp.zeros((3, 3, 3, 8, 8))
    mapped = jax.vmap(gradients, (None, 0))
    assert "stablehlo.convolution" not in lowered(mapped, x, kernels)
    assert "stablehlo.convolution" in lowered(mapped, x, kernels, platform="cuda")


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_patches_of_a_large_image_are_never_whole_in_memory(padding):
    x, kernel = jnp.zeros((32, 64, 64, 16)), jnp.zeros((3, 3, 16, 8))

    def objective(x, kernel):
        return jnp.square(conv2d(x, kernel, padding=padding)).sum()

    compiled = jax.jit(jax.grad(objective, 1)).lower(x, kernel).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 9 * x.nbytes / 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes_are_xlas(dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(random(2, 2, 2, 16)).astype(dtype)
        kernel = jnp.asarray(random(3, 3, 16, 3, seed=1)).astype(dtype)
        pairs = ((1, 1), (1, 1))
        assert not cpu_conv.fits(x, kernel, Geometry(pairs))
        y = conv2d(x, kernel)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, stock(x, kernel, pairs))


@pytest.mark.parametrize(
    "options",
    [{"dilation": 2, "stride": 2}, {"padding": 3}, {"padding": [(0, 3)] * 2}],
)
def test_other_geometries_are_xlas(options):
    kernel = jnp.zeros((3, 3, 8, 8))
    jaxpr = jax.make_jaxpr(lambda x: conv2d(x, kernel, **options))(jnp.zeros((1, 8, 8, 8)))
    assert [equation.primitive.name for equation in jaxpr.eqns] == ["conv_general_dilated"]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"groups": 16}])
def test_a_batch_spread_over_devices(kind, options):
    inputs = 16 // options.get("groups", 1)
    x, kernel = jnp.asarray(random(8, 5, 5, 16)), jnp.asarray(random(3, 3, inputs, 16, seed=1))
    conv = lambda *a: conv2d(*a, padding="VALID", **options)
    expected = conv(x, kernel), *jax.vjp(conv, x, kernel)[1](conv(x, kernel))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,), devices=jax.devices()[:2])
    spread, whole = (NamedSharding(mesh, s) for s in (PartitionSpec("data"), PartitionSpec()))
    arrays = jax.device_put(x, spread), jax.device_put(kernel, whole)
    run = lambda *a: (conv(*a), *jax.vjp(conv, *a)[1](conv(*a)))
    with jax.set_mesh(mesh):
        assert_close(jax.jit(run)(*arrays), expected)
        data, all_of_it = PartitionSpec("data"), PartitionSpec()
        by_device = jax.shard_map(
            run, in_specs=(data, all_of_it), out_specs=(data, data, all_of_it)
        )
        assert_close(jax.jit(by_device)(*arrays), expected)


def test_export_lowers_for_each_platform_and_for_any_batch():
    x, kernel = jnp.asarray(random(3, 2, 2, 4)), jnp.asarray(random(3, 3, 4, 2, seed=1))
    exported = export.export(jax.jit(conv2d), platforms=("cpu", "cuda", "tpu"))(x, kernel)
    assert_close(exported.call(x, kernel), conv2d(x, kernel))
    any_batch = jax.ShapeDtypeStruct(export.symbolic_shape("n, 2, 2, 4"), "float32")
    exported = export.export(jax.jit(lambda x: conv2d(x, kernel)))(any_batch)
    assert_close(exported.call(x), conv2d(x, kernel))
