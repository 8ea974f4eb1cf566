import json

import numpy as np
import pytest

from cnn_jax.config import Config, Data, Model, Synthetic, Train, to_json
from cnn_jax.models.registry import build_model, variable_shapes
from cnn_jax.training.predictor import load_predictor
from cnn_jax.weights.names import by_name
from tests.experiments.command import run_all
from tests.weights.arrays import random_arrays
from tests.weights.pth_files import write_state_dict
from tests.weights.state_dicts import ALEXNET, resnet, state_dict

SHAPE = (64, 64, 3)
LAYERS = {"resnet18": resnet((2, 2, 2, 2), 2), "alexnet_owt": ALEXNET}


def _config(network):
    return Config(
        name=network,
        data=Data(name="synthetic", synthetic=Synthetic(SHAPE, classes=3)),
        model=Model(name=network, width=0.05),
        train=Train(steps=1),
    )


@pytest.fixture(scope="module")
def arrays():
    return {
        network: random_arrays(variable_shapes(build_model(network, 3, width=0.05), SHAPE))
        for network in LAYERS
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory, arrays):
    place = tmp_path_factory.mktemp("place")
    for network, layers in LAYERS.items():
        (place / f"{network}.json").write_text(to_json(_config(network)))
        weights = state_dict(layers, arrays[network])
        write_state_dict(place / f"{network}.pth", weights)
        np.savez(place / f"{network}.npz", **weights)
    own = arrays["resnet18"] | {"normalization/mean": np.full((1, 1, 3), 0.1, np.float32)}
    own |= {"normalization/std": np.full((1, 1, 3), 0.3, np.float32)}
    np.savez(place / "own.npz", **own)
    for name, constants in CONSTANTS.items():
        np.savez(place / f"{name}.npz", **own | constants)
    np.savez(place / "words.npz", **own | {"logits/bias": np.array(["a", "b", "c"])})
    (place / "names.txt").write_text("cat\ndog\n\nfish\n")
    (place / "two.txt").write_text("cat\ndog\n")
    return place


# of the normalisation, beside those of "own"
CONSTANTS = {
    "small": {"normalization/mean": np.zeros((32, 32, 3), np.float32)},
    "even": {"normalization/std": np.zeros((1, 1, 3), np.float32)},
    "more": {"normalization/epsilon": np.ones(1, np.float32)},
}

RESNET, TO = "--config=resnet18.json", "--workdir=new"
GRAY = "--config.data.synthetic.image_shape=(64,64,1)"
LINES = {
    "resnet": [RESNET, "--weights=resnet18.pth", "--workdir=resnet", "--class_names=names.txt"],
    "alexnet": ["--config=alexnet_owt.json", "--weights=alexnet_owt.npz", "--workdir=alexnet"],
    "own": [RESNET, "--weights=own.npz", "--workdir=own"],
    "given": [RESNET, "--weights=own.npz", "--workdir=given", "--mean=0.5", "--std=0.25,0.5,1"],
    "small": [RESNET, "--weights=small.npz", TO],
    "even": [RESNET, "--weights=even.npz", TO],
    "more": [RESNET, "--weights=more.npz", TO],
    "words": [RESNET, "--weights=words.npz", TO],
    "again": [RESNET, "--weights=resnet18.pth", "--workdir=resnet"],
    "no weights": [RESNET, TO],
    "no workdir": [RESNET, "--weights=resnet18.pth"],
    "no file": [RESNET, "--weights=none.pth", TO],
    "another network": [RESNET, "--weights=alexnet_owt.npz", TO],
    "another width": [RESNET, "--weights=resnet18.pth", TO, "--config.model.width=0.1"],
    "two classes": [RESNET, "--weights=resnet18.pth", TO, "--class_names=two.txt"],
    "no names": [RESNET, "--weights=resnet18.pth", TO, "--class_names=none.txt"],
    "no number": [RESNET, "--weights=resnet18.pth", TO, "--mean=a"],
    "two numbers": [RESNET, "--weights=resnet18.pth", TO, "--std=1,1"],
    "a gray image": [RESNET, "--weights=resnet18.pth", TO, GRAY, "--mean=0.5"],
    "nothing": [RESNET, "--weights=resnet18.pth", TO, "--std=0"],
    "no finite number": [RESNET, "--weights=resnet18.pth", TO, "--mean=nan"],
    "a population": [RESNET, "--weights=resnet18.pth", TO, "--config.population.seeds=2"],
}


@pytest.fixture(scope="module")
def answers(place):
    return dict(zip(LINES, run_all("import_weights", LINES.values(), cwd=place), strict=True))


@pytest.mark.parametrize(
    ("line", "network", "mean", "std"),
    [
        ("resnet", "resnet18", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("alexnet", "alexnet_owt", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("own", "resnet18", (0.1, 0.1, 0.1), (0.3, 0.3, 0.3)),
        ("given", "resnet18", (0.5, 0.5, 0.5), (0.25, 0.5, 1)),
    ],
)
def test_the_run_has_the_weights_and_constants(place, answers, arrays, line, network, mean, std):
    answer = answers[line]
    assert answer.code == 0, answer.err
    predictor = load_predictor(place / line)
    found = by_name(predictor.variables)
    assert found.keys() == arrays[network].keys()
    for name, array in arrays[network].items():
        np.testing.assert_array_equal(found[name], array)
    np.testing.assert_array_equal(predictor.normalization.mean.ravel(), np.float32(mean))
    np.testing.assert_array_equal(predictor.normalization.std.ravel(), np.float32(std))
    said = json.loads(answer.out)
    assert said["arrays"] == len(found) == len(answer.err.splitlines())
    names = ("cat", "dog", "fish") if line == "resnet" else ("class 0", "class 1", "class 2")
    assert predictor.spec.class_names == names


def test_the_report_says_what_became_what(answers):
    rows = [line.split() for line in answers["resnet"].err.splitlines()]
    shape = ["1", "x", "1", "x", "3", "x", "6"]
    assert ["conv3_1/conv_shortcut/kernel", *shape, "<-", "layer2.0.downsample.0"] in rows


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("small", "mean is 32 x 32 x 3, which is not for images of 64 x 64 x 3; give --mean"),
        ("even", "in the file normalization/std must be finite, a std above 0; give"),
        ("more", "normalization/epsilon is 1, which is not for images"),
        ("words", "words.npz: logits/bias is of the type <U1; weights are real numbers"),
        ("again", "resnet holds a run already"),
        ("no weights", "--weights is missing"),
        ("no workdir", "--workdir is missing"),
        ("no file", "there is no file none.pth"),
        ("another network", "they have 0 batch-norm layers, the network 20"),
        ("another width", "conv1/kernel is (7, 7, 3, 3) in the file and (7, 7, 3, 6)"),
        ("two classes", "logits/bias is (3,) in the file and (2,) in the network"),
        ("no names", "--class_names=none.txt can't be read"),
        ("no number", "--mean is a; it must be numbers"),
        ("two numbers", "--std has 2 numbers; the images have 3 channels"),
        ("a gray image", "ImageNet's, of 3 channels; the images have 1: give both"),
        ("nothing", "--std is"),
        ("no finite number", "--mean is nan; it must be finite"),
        ("a population", "weights are of one network"),
    ],
)
def test_wrong_input_is_told_in_one_line(answers, place, line, message):
    answer = answers[line]
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err and answer.err.count("\n") == 1
    assert not (place / "new").exists()
