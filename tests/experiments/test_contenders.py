"""All contenders compute the same network, and take the steps that they are asked for."""

import contextlib
import os
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnn_jax.analysis.operations import operations
from cnn_jax.analysis.summary import summarize
from cnn_jax.config import Config, Data, Model
from cnn_jax.errors import InputError
from experiments import contenders
from experiments.contenders import CEILING, OURS, ceiling, ours, stock_flax
from experiments.contenders.files import train_files
from experiments.contenders.task import (
    WARM_STEPS,
    Batches,
    Started,
    Task,
    benchmark_config,
    streamed_config,
)
from experiments.contenders.worker import timed
from tests.experiments.tiny_task import tiny
from tests.models.networks import make_images, make_variables, small_network, small_shape
from tests.peers.comparison import weights_by_layer

NETWORKS = {
    "lenet5": {},
    "fashion_convnet": {"width": 1.0},
    "cats_dogs": {},
    "alexnet_owt": {},
    "vgg16_cifar": {"depths": (1, 1, 1, 1, 1)},
    "resnet18": {"depths": (1, 1, 1, 1)},
    "resnet20_cifar": {"depth": 8, "width": 0.25},
    "wrn28_10": {"depth": 10, "width": 0.5},
    "airbench": {},
}


class Case(NamedTuple):
    operations: list
    variables: dict
    images: jax.Array
    logits: np.ndarray


# The peers' networks are ours.


@pytest.fixture(scope="module", params=NETWORKS)
def case(request):
    """A network's graph, its weights, images and logits."""
    name = request.param
    model, shape = small_network(name, **NETWORKS[name]), small_shape(name)
    variables, images = make_variables(model, shape), make_images(shape)
    logits = jax.jit(partial(model.apply, train=False))(variables, images)
    return Case(operations(model, shape), variables, images, np.asarray(logits))


def check_logits(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_stock_flax_has_the_same_network(case):
    network = stock_flax.StockNetwork(tuple(case.operations))
    variables = {name: weights_by_layer({name: tree}) for name, tree in case.variables.items()}
    shapes = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), case.images)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    logits = jax.jit(partial(network.apply, train=False))(variables, case.images)
    check_logits(logits, case.logits)


@pytest.mark.filterwarnings("ignore")
def test_pytorch_has_the_same_network(case):
    torch = pytest.importorskip("torch")
    from experiments.contenders import pytorch

    network = pytorch.with_weights(case.operations, case.variables)
    with torch.inference_mode():
        logits = network(torch.tensor(np.asarray(case.images)).permute(0, 3, 1, 2))
    check_logits(logits.numpy(), case.logits)


@pytest.mark.filterwarnings("ignore")
def test_keras_has_the_same_network(case):
    keras = import_keras()
    from experiments.contenders import keras_network

    network = keras_network.network(case.operations, case.images.shape[1:])
    layers = {layer.name: layer for layer in network.layers if layer.weights}
    weights = weights_by_layer(case.variables)
    assert layers.keys() == weights.keys()
    for name, layer in layers.items():
        order = ("kernel", "scale", "bias", "mean", "var")
        layer.set_weights([weights[name][leaf] for leaf in order if leaf in weights[name]])
    outputs = network(np.asarray(case.images), training=False)
    check_logits(keras.ops.convert_to_numpy(keras.ops.stop_gradient(outputs)), case.logits)


def import_keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras")


def test_a_network_whose_graph_does_not_show_has_no_peer(monkeypatch):
    def forked(*args):
        first, second, *rest = operations(*args)
        return [first, contenders.dataclasses.replace(second, inputs=(None,)), *rest]

    monkeypatch.setattr("experiments.contenders.task.operations", forked)
    with pytest.raises(InputError, match="only ours can be measured"):
        stock_flax.build(Task(tiny(), "train", "flax"))


def test_a_layer_that_a_peer_has_not_is_named():
    found = operations(small_network("alexnet"), small_shape("alexnet"))
    network = stock_flax.StockNetwork(tuple(found))
    with pytest.raises(InputError, match=r"Flax has no layer like norm1 \(ResponseNorm\)"):
        jax.eval_shape(
            partial(network.init, train=False), jax.random.key(0), make_images((67, 67, 3))
        )


# The task is the same for all.


def test_the_task_is_the_configs_network_without_its_data():
    config = Config(data=Data(name="cifar10", batch_size=16), model=Model("vgg16_cifar", width=0.5))
    made = benchmark_config(config, dtype="bfloat16")
    assert made.data.name == "synthetic"
    assert (made.data.synthetic.image_shape, made.data.synthetic.classes) == ((32, 32, 3), 10)
    assert made.data.synthetic.train_examples % 16 == 0
    assert made.data.synthetic.train_examples * 32 * 32 * 3 * 4 <= 2**27
    assert (made.model.width, made.train.dtype) == (0.5, "bfloat16")
    large = Config(data=Data(name="imagenet2012", image_size=224), model=Model("alexnet_owt"))
    assert benchmark_config(large, batch_size=300).data.synthetic.train_examples == 300


def test_images_of_many_sizes_are_refused():
    with pytest.raises(InputError, match="image_size"):
        benchmark_config(Config(data=Data(name="cats_vs_dogs"), model=Model("cats_dogs")))


def test_batches_hold_every_example_once_an_epoch():
    batches = Batches(12, 4)
    first, second = ([next(batches) for _ in range(3)] for _ in range(2))
    assert sorted(np.concatenate(first)) == sorted(np.concatenate(second)) == list(range(12))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("mode", "dtype"), [("train", "float32"), ("train", "bfloat16"), ("inference", "float32")]
)
def test_contenders_take_as_many_steps_as_asked_for(mode, dtype):
    config = tiny(dtype)
    trainable = summarize(Task(config, mode, OURS).model, (8, 8, 1)).trainable
    for module in (ours, stock_flax):
        started = module.build(Task(config, mode, module.__name__)).start()
        assert [started.run(1), started.run(3)] == [1, 3]
        assert started.parameters == trainable


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["train", "inference"])
def test_pytorch_takes_as_many_steps_as_asked_for(mode):
    pytest.importorskip("torch")
    from experiments.contenders import pytorch

    started = pytorch.build(Task(tiny("bfloat16"), mode, "torch")).start()
    assert [started.run(1), started.run(3)] == [1, 3]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["train", "inference"])
def test_keras_takes_whole_epochs(mode, monkeypatch):
    import_keras()
    from experiments.contenders import keras_network

    monkeypatch.setattr("experiments.contenders.task._MOST_EXAMPLES", 12)
    started = keras_network.build(Task(tiny(), mode, "keras-jax")).start()
    assert [started.run(1), started.run(3), started.run(8)] == [1, 3, 9]
    assert 0 < started.seconds() < 60


def test_the_ceiling_counts_a_products_flops(monkeypatch):
    monkeypatch.setattr(ceiling, "CPU_SIZE", 8)
    started = ceiling.build(Task(tiny(), "train", CEILING)).start()
    assert (started.run(2), started.flops) == (2, 2 * 8**3)


# Training from files.


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    return streamed_config(tiny(), tmp_path_factory.mktemp("files"))


def test_the_files_are_larger_than_the_networks_images(streamed):
    task = Task(streamed, "streaming", OURS)
    assert (task.image_shape, streamed.data.feed) == ((8, 8, 1), "streaming")
    paths, labels = train_files(Path(streamed.data.dir))
    assert len(paths) == 8 * 4 and set(labels) == {0, 1, 2}
    with Image.open(paths[0]) as image:
        assert image.size == (17, 13)


def test_images_that_files_can_not_hold_are_refused(tmp_path):
    config = tiny()
    config.data.synthetic.image_shape = (8, 8, 2)
    with pytest.raises(InputError, match="8×8×2 can't be streamed"):
        streamed_config(config, tmp_path)


def test_steps_before_reading_has_settled_do_not_count():
    log = []

    @contextlib.contextmanager
    def reading():
        log.append("open")
        yield
        log.append("closed")

    def run(steps):
        log.append(steps)
        return steps

    assert timed(Started(run, 0, reading=reading), 3)[1] == 3
    assert log == ["open", WARM_STEPS, 3, "closed"]
    log.clear()
    timed(Started(run, 0), 3)
    assert log == [3]


@pytest.mark.filterwarnings("ignore")
def test_pytorch_trains_from_the_files(streamed):
    pytest.importorskip("torch")
    from experiments.contenders import pytorch

    started = pytorch.build(Task(streamed, "streaming", "torch")).start()
    for _ in range(2):
        with started.reading():
            assert started.run(10) == 10


@pytest.mark.filterwarnings("ignore")
def test_keras_trains_from_the_files(streamed):
    import_keras()
    pytest.importorskip("tensorflow")
    from experiments.contenders import keras_network

    started = keras_network.build(Task(streamed, "streaming", "keras-tensorflow")).start()
    assert started.run(10) == 10
    assert 0 < started.seconds() < 60
