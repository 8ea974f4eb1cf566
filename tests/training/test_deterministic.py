"""That nothing in a training step is computed in no fixed order on a GPU.

There is none here: what is looked at is the program that would be compiled for one.
"""

import re

import jax
import jax.numpy as jnp
import pytest

from cnn_jax.config import Augment, Train
from cnn_jax.data.resident import Feed
from cnn_jax.models.registry import variable_shapes
from cnn_jax.training.device_steps import fed_train_step
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.losses import binary_cross_entropy, cross_entropy, of_labels
from cnn_jax.training.parallel import compile_step, compiler_options, make_mesh
from cnn_jax.training.setup import abstract_state, build_experiment
from cnn_jax.training.state import Purpose, key_for
from tests.models.networks import CLASSES, small_network, small_shape
from tests.training.tiny import tiny_config

# One network for every kind of layer, pooling (tiled, overlapping, padded) and shortcut.
NETWORKS = (
    "lenet5",
    "alexnet",
    "cats_dogs",
    "vgg16_cifar",
    "resnet18",
    "resnet20_cifar",
    "wrn28_10",
)
# With what its region computes: counts add up in any order, as sums of floats do not.
SCATTER = re.compile(r'"stablehlo\.(?:select_and_scatter|scatter)".*?stablehlo\.return', re.DOTALL)


def unordered(program):
    return [
        text
        for text in SCATTER.findall(program)
        if "select_and_scatter" in text or re.search(r"stablehlo\.add .*tensor<b?f\d+>", text)
    ]


def for_a_gpu(f, *arguments):
    return jax.jit(f).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(
    ("name", "loss"),
    [("lenet5", binary_cross_entropy), *((name, cross_entropy) for name in NETWORKS)],
)
def test_no_gradient_of_a_network_is_unordered(name, loss):
    depth = {"wrn28_10": 10, "resnet20_cifar": 8}.get(name)
    model, shape = small_network(name, depth=depth), small_shape(name)
    loss_fn = of_labels(loss)

    def objective(params, variables, batch, key):
        variables = {**variables, "params": params}
        options = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": key}}
        logits, _ = model.apply(variables, batch["image"], **options)
        return loss_fn(logits, batch).mean()

    variables = variable_shapes(model, shape)
    batch = {
        "image": jax.ShapeDtypeStruct((2, *shape), jnp.float32),
        "label": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    text = for_a_gpu(jax.grad(objective), variables["params"], variables, batch, jax.random.key(0))
    assert "stablehlo.convolution" in text and CLASSES == 3
    assert not unordered(text)


def _experiment(**augment):
    config = tiny_config(skip_nonfinite=1, ema_decay=0.9, accumulate=2, deterministic=True)
    config.data.augment = Augment(**augment)
    return build_experiment(config)


def _step_for_a_gpu(experiment):
    split, size = experiment.dataset.train, len(experiment.dataset.train)
    shapes = (split.images, split.labels, jnp.zeros(2 * size, jnp.int32), jnp.int32(0))
    feed = Feed(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in shapes))
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), abstract_state(experiment)
    )
    return for_a_gpu(fed_train_step(experiment), state, feed, key_for(0, Purpose.STEP))


@pytest.mark.usefixtures("optax_promotes")
def test_a_whole_step_with_its_augmentation_is_ordered():
    everything = {
        "flip": True, "crop_padding": 1, "rotation": 5.0, "zoom": 0.1, "trivial_augment": True,
        "brightness": 0.1, "blur": 1.0, "noise": 0.1, "cutout": 2, "erasing": 0.5, "mixup": 0.2,
        "cutmix": 1.0,
    }  # fmt: skip
    text = _step_for_a_gpu(_experiment(**everything))
    assert "stablehlo.convolution" in text
    assert not unordered(text)


@pytest.mark.parametrize("way", ["jit", "pmap"])
def test_the_option_reaches_the_compiler(way):
    """An unknown one in its place would be refused by it."""
    mesh, example = make_mesh(1), (jnp.ones(2),)
    options = compiler_options(Train(deterministic=True), "gpu")
    compiled = compile_step(lambda x: x * 2, example, mesh=mesh, way=way, options=options)
    assert compiled(*example).tolist() == [2, 2]
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option: 'xla_gpu_x'"):
        compile_step(lambda x: x * 3, example, mesh=mesh, way=way, options={"xla_gpu_x": True})
    assert compiler_options(Train(), "gpu") == compiler_options(Train(remat=True), "gpu") == {}


@pytest.mark.usefixtures("optax_promotes")
def test_the_config_asks_for_it(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "cnn_jax.training.programs.compile_step",
        lambda *given, options, **rest: asked.append(options) or compile_step(*given, **rest),
    )
    train_and_evaluate(tiny_config(steps=1, deterministic=True), tmp_path)
    assert asked == [{"xla_gpu_deterministic_ops": True}] * 2  # the training and evaluation step


def test_an_unordered_program_would_be_found():
    picked = jax.grad(lambda x, i: (x[i] ** 2).sum())
    assert unordered(for_a_gpu(picked, jnp.ones(5), jnp.array([1, 1])))
    counted = lambda i: jnp.zeros(3, jnp.int32).at[i].add(1)
    assert not unordered(for_a_gpu(counted, jnp.array([1, 1])))

    def pool(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (3, 3), (2, 2), "VALID").sum()

    assert unordered(for_a_gpu(jax.grad(pool), jnp.ones((7, 7))))
