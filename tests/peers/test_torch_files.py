"""Files that torch.save wrote, and the logits of torchvision's structures built from torch.nn."""

from functools import partial

import jax
import numpy as np
import pytest

from cnn_jax.models.registry import build_model, variable_shapes
from cnn_jax.weights.files import load_weights
from cnn_jax.weights.torchvision import match_torchvision
from tests.models.networks import make_images
from tests.peers.comparison import TOLERANCE, import_peer

torch = import_peer("torch")
nn = torch.nn


class Sequential(nn.Module):
    """torchvision's VGG and AlexNet: features, pooling to a fixed size, classifier."""

    def __init__(self, features, size, classifier):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(size)
        self.classifier = nn.Sequential(*classifier)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def vgg11(batch_norm):
    layers, inputs = [], 3
    for width in (3, "M", 6, "M", 13, 13, "M", 26, 26, "M", 26, 26, "M"):
        if width == "M":
            layers.append(nn.MaxPool2d(2, 2))
            continue
        norm = [nn.BatchNorm2d(width)] if batch_norm else []
        layers += [nn.Conv2d(inputs, width, 3, padding=1), *norm, nn.ReLU(True)]
        inputs = width
    dense = [nn.Linear(26 * 49, 205), nn.ReLU(True), nn.Dropout()]
    dense += [nn.Linear(205, 205), nn.ReLU(True), nn.Dropout(), nn.Linear(205, 7)]
    return Sequential(layers, 7, dense)


def alexnet():
    layers = [nn.Conv2d(3, 3, 11, stride=4, padding=2), nn.ReLU(True), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(3, 10, 5, padding=2), nn.ReLU(True), nn.MaxPool2d(3, 2)]
    for inputs, outputs in ((10, 19), (19, 13), (13, 13)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(True)]
    dense = [nn.Dropout(), nn.Linear(13 * 36, 205), nn.ReLU(True), nn.Dropout()]
    dense += [nn.Linear(205, 205), nn.ReLU(True), nn.Linear(205, 7)]
    return Sequential([*layers, nn.MaxPool2d(3, 2)], 6, dense)


class Block(nn.Module):
    """torchvision's BasicBlock and Bottleneck, by their convolutions' windows."""

    def __init__(self, inputs, widths, windows, stride):
        super().__init__()
        strided = windows.index(3)
        sizes = [inputs, *widths]
        self.count = len(windows)
        for i, window in enumerate(windows):
            step = stride if i == strided else 1
            conv = nn.Conv2d(sizes[i], sizes[i + 1], window, step, window // 2, bias=False)
            setattr(self, f"conv{i + 1}", conv)
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(sizes[i + 1]))
        self.downsample = None
        if stride > 1 or inputs != widths[-1]:
            conv = nn.Conv2d(inputs, widths[-1], 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(widths[-1]))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y.relu() if i < self.count else y
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    def __init__(self, depths, widths, bottleneck):
        super().__init__()
        inputs = widths[0]
        self.conv1 = nn.Conv2d(3, inputs, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            blocks = []
            for i in range(depth):
                outputs = [width, width, 4 * width] if bottleneck else [width, width]
                windows = [1, 3, 1] if bottleneck else [3, 3]
                blocks.append(Block(inputs, outputs, windows, 2 if stage > 1 and i == 0 else 1))
                inputs = outputs[-1]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, 7)

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


# name of ours, options, image shape, torchvision's form of it
NETWORKS = {
    "vgg11": ("vgg11", {"width": 0.05}, 224, lambda: vgg11(False)),
    "vgg11 with batch norm": (
        "vgg11",
        {"width": 0.05, "batch_norm": True},
        224,
        lambda: vgg11(True),
    ),
    "alexnet": ("alexnet_owt", {"width": 0.05}, 224, alexnet),
    "resnet18": (
        "resnet18",
        {"width": 0.1},
        64,
        lambda: ResNet((2, 2, 2, 2), (6, 13, 26, 51), False),
    ),
    "resnet50": (
        "resnet50",
        {"width": 0.1},
        65,
        lambda: ResNet((3, 4, 6, 3), (6, 13, 26, 51), True),
    ),
}


def _randomised(network):
    """Gives the running statistics and the norms' parameters values that leave a mark."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for array in (module.weight, module.bias, module.running_mean, module.running_var):
                array.data.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_state_dict_gives_torchs_logits(tmp_path, name):
    ours, options, size, build = NETWORKS[name]
    torch.manual_seed(0)
    network = _randomised(build())
    torch.save(network.state_dict(), tmp_path / "net.pth")
    model, shape = build_model(ours, 7, **options), (size, size, 3)
    match = match_torchvision(load_weights(tmp_path / "net.pth"), variable_shapes(model, shape))
    images = np.asarray(make_images(shape, count=2))
    with torch.no_grad():
        expected = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    logits = np.asarray(jax.jit(partial(model.apply, train=False))(match.variables, images))
    difference = np.abs(logits - expected).max() / np.abs(expected).max()
    print(f"{name}: largest difference {difference:.1e} of the largest logit")
    assert difference < TOLERANCE


def test_every_kind_of_tensor_and_checkpoint_that_torch_writes(tmp_path):
    state = {
        "view": torch.arange(12.0).reshape(3, 4)[:, 1:3],
        "parameter": nn.Parameter(torch.ones(2)),
        "half": torch.ones(3, dtype=torch.float16) / 2,
        "brain": torch.ones(3, dtype=torch.bfloat16) * 3,
        "double": torch.ones(3, dtype=torch.float64),
        "whole": torch.arange(3),
        "scalar": torch.tensor(2.0),
        "empty": torch.zeros(0, 3),
    }
    torch.save({"state_dict": state, "epoch": 3, "arch": "x"}, tmp_path / "net.pth")
    found = load_weights(tmp_path / "net.pth")
    assert found.keys() == state.keys()
    for key, tensor in state.items():
        np.testing.assert_array_equal(found[key], tensor.detach().double().numpy())


def test_files_that_hold_more_than_tensors_are_refused(tmp_path):
    torch.save(alexnet(), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"holds the Python object .*nothing of it was executed"):
        load_weights(tmp_path / "model.pth")
    old = tmp_path / "old.pth"
    torch.save({"a": torch.ones(1)}, old, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"before version 1\.6"):
        load_weights(old)
