"""The PyTorch side of experiments.benchmark_predict: the same classes from the same files."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnn_jax.analysis.operations import operations
from cnn_jax.config import with_fields
from cnn_jax.training.predictor import compile_logits, load_predictor
from experiments import configs
from tests.experiments.command import run
from tests.peers.comparison import TOLERANCE, import_peer
from tests.untrained import write_untrained

torch = import_peer("torch")
pytorch = pytest.importorskip("experiments.contenders.pytorch")
torch_predict = pytest.importorskip("experiments.contenders.torch_predict")


def _write(workdir, name, **model):
    config = configs.load(name)
    for field, value in model.items():
        setattr(config.model, field, value)
    write_untrained(workdir, config)


@pytest.mark.parametrize(
    ("name", "model"), [("lenet_digits", {}), ("resnet18_cifar", {"width": 0.1})]
)
def test_the_network_is_the_runs(tmp_path, name, model):
    _write(tmp_path / "run", name, **model)
    predictor = load_predictor(tmp_path / "run")
    shape = predictor.spec.image_shape
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    expected = compile_logits(predictor, 8)(images)
    prepared = np.asarray(predictor.prepare(jnp.asarray(images))).transpose(0, 3, 1, 2)
    network = pytorch.with_weights(operations(predictor.model, shape), predictor.variables)
    with torch.no_grad():
        logits = network(torch.from_numpy(prepared.copy())).numpy()
    assert np.abs(logits - expected).max() / np.abs(expected).max() < TOLERANCE


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_files_are_brought_to_size_as_ours(tmp_path, share):
    _write(tmp_path / "run", "lenet_digits")
    predictor = load_predictor(tmp_path / "run")
    config = with_fields(predictor.config, {"data.center_crop": share})
    predictor = dataclasses.replace(predictor, config=config)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    ours = predictor.prepare(jnp.asarray(predictor.decode((tmp_path / "1.png").read_bytes())[None]))
    (theirs,) = torch_predict.Images([tmp_path / "1.png"], predictor)
    np.testing.assert_allclose(theirs.numpy().transpose(1, 2, 0), ours[0], atol=1e-6)


def test_both_sides_give_the_same_classes(tmp_path):
    _write(tmp_path / "run", "lenet_digits")
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        pixels = rng.integers(0, 256, (20, 30), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    answer = run("benchmark_predict", "--workdir=run", "--rounds=1", "images", cwd=tmp_path)
    assert answer.code == 0, answer.err
    ours, theirs = map(json.loads, answer.out.splitlines())
    assert (ours["contender"], theirs["contender"]) == ("cnn_jax", "torch")
    assert ours["images"] == theirs["images"] == 10
    assert ours["same_top"] == theirs["same_top"] == 1
    assert theirs["images_per_second"] > 0 and ours["ours_over_this"] == 1
