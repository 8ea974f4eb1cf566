import json
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from safetensors.numpy import load_file

from cnn_jax.data.normalization import fit_normalization
from cnn_jax.errors import RunError
from cnn_jax.training import export
from cnn_jax.training.predictor import compile_logits, load_predictor
from tests.experiments.command import run_all

needs_flatbuffers = pytest.mark.skipif(
    find_spec("flatbuffers") is None, reason="jax.export writes with the package flatbuffers"
)
LINES = {
    "stablehlo": ["--workdir=run", "--format=stablehlo"],
    "safetensors": ["--workdir=run", "--format=safetensors", "--out=new/weights.bin"],
    "whitening": ["--workdir=zca", "--format=stablehlo"],
    "no workdir": ["--format=safetensors"],
    "no run": ["--workdir=none", "--format=safetensors"],
    "no format": ["--workdir=run"],
    "unknown format": ["--workdir=run", "--format=onnx"],
    "a folder": ["--workdir=run", "--format=safetensors", "--out=run"],
    "not writable": ["--workdir=run", "--format=safetensors", "--out=/proc/none/model"],
    "the config": ["--workdir=run", "--format=safetensors", "--out=run/config.json"],
    "beside": ["--workdir=run", "--format=safetensors", "--out=run/../run/config"],
    "a checkpoint": ["--workdir=run", "--format=safetensors", "--out=run/checkpoints/0/state"],
    "below a file": ["--workdir=run", "--format=safetensors", "--out=run/config.json/model"],
}
# What a user of the file runs: jax is there, nothing of this project or of Flax can be.
USER = """
import sys
sys.modules.update(cnn_jax=None, flax=None, experiments=None)
import jax, numpy as np
network = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
images = np.load(sys.argv[2])
np.savez(sys.argv[3], all=network.call(images), one=network.call(images[:1]))
assert network.platforms == ("cpu", "cuda", "tpu")
calls = {line.split("@")[1].split("(")[0] for line in network.mlir_module().splitlines()
         if "custom_call" in line}
assert calls <= {"shape_assertion"}, calls
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, untrained):
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(untrained, place / "run")
    shutil.copytree(untrained, place / "zca")
    images = np.random.default_rng(3).integers(0, 256, (7, 8, 8, 1), np.uint8)
    fit_normalization(images, "zca").save(place / "zca" / "normalization.npz")
    return place


@pytest.fixture(scope="module")
def answers(place):
    return dict(zip(LINES, run_all("export", LINES.values(), cwd=place), strict=True))


@pytest.fixture(scope="module")
def expected(untrained):
    """Images, and the run's own logits of them."""
    predictor = load_predictor(untrained)
    images = np.random.default_rng(3).integers(0, 256, (7, 8, 8, 1), np.uint8)
    return images, compile_logits(predictor, 8)(images), predictor


@needs_flatbuffers
def test_the_program_runs_with_jax_alone(place, answers, expected):
    answer = answers["stablehlo"]
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    assert said["path"] == "run/export/model.stablehlo"
    assert 0 <= said["largest_difference"] < 1e-5
    images, logits, _ = expected
    np.save(place / "images.npy", images)
    command = [sys.executable, "-I", "-c", USER, place / said["path"], "images.npy", "logits.npz"]
    subprocess.run(command, cwd=place, check=True)
    found = np.load(place / "logits.npz")
    np.testing.assert_allclose(found["all"], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["one"], logits[:1], rtol=1e-4, atol=1e-5)


def test_weights_and_constants_are_the_runs(place, answers, expected):
    assert answers["safetensors"].code == 0, answers["safetensors"].err
    said = json.loads(answers["safetensors"].out)
    assert (said["path"], said["step"], said["largest_difference"]) == ("new/weights.bin", 0, 0)
    assert said["bytes"] == (place / "new" / "weights.bin").stat().st_size
    arrays = load_file(place / "new" / "weights.bin")
    predictor = expected[2]
    np.testing.assert_array_equal(arrays.pop("normalization/mean"), predictor.normalization.mean)
    np.testing.assert_array_equal(arrays.pop("normalization/std"), predictor.normalization.std)
    layers = predictor.variables["params"]
    assert arrays.keys() == {f"{layer}/{name}" for layer in layers for name in layers[layer]}
    np.testing.assert_array_equal(arrays["conv1/kernel"], layers["conv1"]["kernel"])
    described = json.loads((place / "new" / "weights.bin.json").read_text())
    assert described["class_names"] == [*"0123456789"]
    assert described["image_shape"] == [8, 8, 1]
    assert described["config"]["model"]["name"] == "lenet_same"
    assert "HWIO" in described["layout"]["kernels"]


@needs_flatbuffers
def test_whitening_is_in_the_program(answers):
    answer = answers["whitening"]
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["largest_difference"] < 1e-4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no workdir", "--workdir=DIR is missing"),
        ("no run", "none is no run directory"),
        ("no format", "--format is missing: stablehlo or safetensors"),
        ("unknown format", "onnx"),
        ("a folder", "run is a folder"),
        ("not writable", "/proc/none/model can't be written"),
        ("the config", "run/config.json is a file of a run, which needs it; give another --out"),
        ("beside", "run/../run/config.json is a file of a run"),
        ("a checkpoint", "run/checkpoints/0/state is a file of a run"),
        ("below a file", "run/config.json/model can't be written"),
    ],
)
def test_wrong_input_is_told_in_one_line(answers, place, untrained, line, message):
    answer = answers[line]
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err and answer.err.count("\n") == 1
    config = (place / "run" / "config.json").read_bytes()
    assert config == (untrained / "config.json").read_bytes()


def test_a_file_whose_logits_differ_is_not_left(tmp_path, monkeypatch, expected):
    right = export.by_name

    def wrong(variables):
        arrays = right(variables)
        return arrays | {"logits/bias": arrays["logits/bias"] + 0.01}

    monkeypatch.setattr(export, "by_name", wrong)
    with pytest.raises(RunError, match="logits differ from the run's"):
        export.export_safetensors(expected[2], tmp_path / "model.safetensors")
    assert [*tmp_path.iterdir()] == []


def test_logits_that_are_not_finite_are_told_as_such(tmp_path, monkeypatch, expected):
    monkeypatch.setattr(export, "compile_logits", lambda *_: lambda images: np.full(2, np.nan))
    with pytest.raises(RunError, match="the run's own logits are not finite"):
        export.export_safetensors(expected[2], tmp_path / "model.safetensors")
    assert [*tmp_path.iterdir()] == []
