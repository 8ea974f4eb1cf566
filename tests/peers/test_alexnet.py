"""AlexNet against PyTorch's layers, put together as the papers say."""

import numpy as np
import pytest

from cnn_jax.models.registry import build_model
from tests.peers.comparison import check_logits, import_peer

torch = import_peer("torch")
nn = torch.nn


def _norm():
    # PyTorch divides alpha by the size; the paper's 1e-4 is not divided.
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def _alexnet(groups):
    return {
        "conv1": nn.Conv2d(3, 96, 11, stride=4),
        "after1": nn.Sequential(nn.ReLU(), _norm(), nn.MaxPool2d(3, 2)),
        "conv2": nn.Conv2d(96, 256, 5, padding=2, groups=groups),
        "after2": nn.Sequential(nn.ReLU(), _norm(), nn.MaxPool2d(3, 2)),
        "conv3": nn.Conv2d(256, 384, 3, padding=1),
        "relu3": nn.ReLU(),
        "conv4": nn.Conv2d(384, 384, 3, padding=1, groups=groups),
        "relu4": nn.ReLU(),
        "conv5": nn.Conv2d(384, 256, 3, padding=1, groups=groups),
        "after5": nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten()),
    }


def _one_weird_trick():
    return {
        "conv1": nn.Conv2d(3, 64, 11, stride=4, padding=2),
        "after1": nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2)),
        "conv2": nn.Conv2d(64, 192, 5, padding=2),
        "after2": nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2)),
        "conv3": nn.Conv2d(192, 384, 3, padding=1),
        "relu3": nn.ReLU(),
        "conv4": nn.Conv2d(384, 256, 3, padding=1),
        "relu4": nn.ReLU(),
        "conv5": nn.Conv2d(256, 256, 3, padding=1),
        "after5": nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten()),
    }


def _head():
    return {
        "dense1": nn.Linear(256 * 6 * 6, 4096),
        "dense1_relu": nn.ReLU(),
        "dense1_dropout": nn.Dropout(),
        "dense2": nn.Linear(4096, 4096),
        "dense2_relu": nn.ReLU(),
        "dense2_dropout": nn.Dropout(),
        "logits": nn.Linear(4096, 10),
    }


def _kernel(name, kernel):
    """Returns a kernel as PyTorch lays it out; its images are flattened channels first."""
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    if name == "dense1":
        kernel = kernel.reshape(6, 6, 256, -1).transpose(2, 0, 1, 3).reshape(9216, -1)
    return kernel.T


def _logits(layers, weights, images):
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    with torch.no_grad():
        for name, arrays in weights.items():
            layer = getattr(network, name)
            for ours, theirs in (
                (_kernel(name, arrays["kernel"]), layer.weight),
                (arrays["bias"], layer.bias),
            ):
                assert ours.shape == tuple(theirs.shape)
                theirs.copy_(torch.from_numpy(np.array(ours)))
        batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        return network.eval()(batch).numpy()


@pytest.mark.parametrize(
    ("name", "size", "convolutions"),
    [
        ("alexnet", 227, lambda: _alexnet(groups=2)),
        ("alexnet_one_tower", 227, lambda: _alexnet(groups=1)),
        ("alexnet_owt", 224, _one_weird_trick),
    ],
)
def test_logits_are_pytorchs(name, size, convolutions):
    layers = convolutions() | _head()
    check_logits(
        name,
        build_model(name, 10),
        (size, size, 3),
        lambda weights, images: _logits(layers, weights, images),
    )
