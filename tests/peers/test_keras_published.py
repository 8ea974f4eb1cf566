"""The Keras side of experiments.benchmark_accuracy: the networks whose figures were published."""

import json

import numpy as np
import pytest

from tests.experiments.command import run

pytest.importorskip("keras")


@pytest.mark.parametrize(
    ("network", "parameters"), [("mnist_convnet", 60_874), ("lenot_mnist", 61_706)]
)
def test_the_network_is_the_published_one(network, parameters, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "test"):
        arrays[f"x_{split}"] = rng.integers(0, 256, (20, 28, 28, 1), np.uint8)
        arrays[f"y_{split}"] = rng.integers(0, 10, 20)
    np.savez(tmp_path / "data.npz", **arrays)
    options = [f"--network={network}", "--data=data.npz", "--epochs=1"]
    answer = run("contenders.keras_published", *options, cwd=tmp_path)
    assert answer.code == 0, answer.err
    said = json.loads(answer.out.splitlines()[-1])
    assert said["parameters"] == parameters and 0 <= said["test_accuracy"] <= 1
