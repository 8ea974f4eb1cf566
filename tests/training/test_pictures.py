"""What a run shows in TensorBoard and leaves at its end; and that showing never ends a run."""

import io
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnn_jax.analysis import run_report
from cnn_jax.training.checkpoint import Checkpoints, abstract
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.pictures import sampled
from cnn_jax.training.run_directory import read_json
from tests.training.events import events
from tests.training.tiny import saved_state, tiny_config

pytestmark = pytest.mark.usefixtures("optax_promotes")
CONFIG = tiny_config(pictures=True)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, optax_promotes):
    workdir = tmp_path_factory.mktemp("run")
    train_and_evaluate(CONFIG, workdir)
    return workdir


def _shown(workdir, kind):
    return {
        (value.tag, step): getattr(value, kind)
        for value, step in events(workdir)
        if value.HasField(kind)
    }


def test_histograms_come_with_each_evaluation(workdir):
    found = _shown(workdir, "histo")
    assert {step for _, step in found} == {4, 8, 12}
    names = {tag.partition("/")[2] for tag, _ in found}
    assert names == {"conv/kernel", "norm/scale", "norm/bias", "logits/kernel", "logits/bias"}
    _, state = saved_state(workdir, CONFIG)
    kernel = np.asarray(state.params["conv"]["kernel"])
    last = found["parameters/conv/kernel", 12]
    assert last.num == kernel.size
    np.testing.assert_allclose([last.min, last.max], [kernel.min(), kernel.max()], rtol=1e-6)
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        before = checkpoints.restore(8, abstract(state, state.step.sharding))
    before = before.params["conv"]["kernel"]
    np.testing.assert_allclose(
        found["changes/conv/kernel", 12].sum, (kernel - before).sum(), rtol=1e-3
    )


def test_images_are_the_augmented_batch_once_and_mistakes_at_evaluations(workdir):
    found = _shown(workdir, "image")
    assert ("training_images", 0) in found
    assert {step for tag, step in found if tag == "validation_mistakes"} <= {4, 8, 12}
    assert {tag for tag, _ in found} == {"training_images", "validation_mistakes"}
    sheet = Image.open(io.BytesIO(found["training_images", 0].encoded_image_string))
    assert sheet.size == (6 + 16 * 67, 3 + 4 * 67)  # sixteen images, three augmented forms of each


def test_the_report_is_left_and_its_time_counted(workdir):
    assert (workdir / "report.html").is_file()
    names = {path.name for path in (workdir / "figures").iterdir()}
    assert {"accuracy.png", "loss.svg", "confusion_rates.png", "calibration.svg"} <= names
    assert read_json(workdir / "result.json")["seconds"]["figures"] > 0


def test_a_report_that_fails_is_one_line(workdir, tmp_path, monkeypatch, capfd):
    def fail(*_):
        raise OSError("disk\nfull")

    monkeypatch.setattr(run_report, "write_run_report", fail)
    ignored = shutil.ignore_patterns("result.json", "report.html", "figures")
    shutil.copytree(workdir, tmp_path / "run", ignore=ignored)
    result = train_and_evaluate(CONFIG, tmp_path / "run")
    assert read_json(tmp_path / "run" / "result.json") == result
    assert not (tmp_path / "run" / "report.html").exists()
    (said,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("no report")]
    assert said.endswith("OSError: disk full") and "experiments.report" in said


def test_large_parameters_are_sampled_evenly():
    params = {"a": jnp.arange(25_000.0).reshape(100, 250), "b": jnp.ones(3)}
    found = sampled(params)
    np.testing.assert_array_equal(found["a"], np.arange(0, 25_000, 3))
    np.testing.assert_array_equal(found["b"], [1, 1, 1])
