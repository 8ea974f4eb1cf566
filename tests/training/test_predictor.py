import dataclasses
import io
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnn_jax.config import Population, with_fields
from cnn_jax.data.normalization import Normalization, normalize, to_unit
from cnn_jax.data.spec import Spec
from cnn_jax.errors import InputError
from cnn_jax.models.registry import initialize
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.optimizer import make_optimizer
from cnn_jax.training.predictor import check_decodable, compile_logits, load_predictor
from cnn_jax.training.run_directory import create_run, read_config, read_spec, write_spec
from cnn_jax.training.state import create_train_state
from tests.training.tiny import Tiny, tiny_config

SPEC = Spec("made", (6, 4, 3), ("a", "b", "c"))
VALUES = np.array([[[0.4, 0.5, 0.6]]], np.float32)


def _state(seed, tx):
    variables = initialize(jax.random.key(seed), model=Tiny(3), image_shape=SPEC.image_shape)
    state = create_train_state(variables, tx, ema=True)
    return state.replace(ema=jax.tree.map(lambda p: p + seed, state.params))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run with an averaged network, whose first checkpoint is its best."""
    workdir = tmp_path_factory.mktemp("run")
    config = tiny_config(ema_decay=0.5)
    create_run(workdir, config)
    write_spec(workdir, SPEC)
    Normalization("mean_std", VALUES, VALUES).save(workdir / "normalization.npz")
    tx = make_optimizer(config.optim, lambda step: 0.1)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        for seed, accuracy in ((1, 0.9), (2, 0.1)):
            checkpoints.save(seed, _state(seed, tx), {"accuracy": accuracy})
    return workdir


def _png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(("which", "seed"), [("last", 2), ("best", 1)])
def test_logits_are_those_of_the_averaged_weights(workdir, which, seed):
    predictor = load_predictor(workdir, which=which)
    assert (predictor.step, predictor.spec) == (seed, SPEC)
    state = _state(seed, make_optimizer(predictor.config.optim, lambda step: 0.1))
    images = np.random.default_rng(0).integers(0, 256, (5, *SPEC.image_shape), np.uint8)
    prepared = normalize(to_unit(jnp.asarray(images)), predictor.normalization)
    variables = {"params": state.ema, "batch_stats": state.batch_stats}
    expected = Tiny(3).apply(variables, prepared, train=False)
    logits = compile_logits(predictor, 6)(images)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_an_image_of_the_runs_shape_keeps_its_pixels(workdir):
    predictor = load_predictor(workdir)
    pixels = np.random.default_rng(0).integers(0, 256, SPEC.image_shape, np.uint8)
    np.testing.assert_array_equal(predictor.decode(_png(pixels)), pixels)


def test_others_are_scaled_and_cropped_at_the_centre(workdir):
    pixels = np.zeros((12, 24, 3), np.uint8)
    pixels[:, 7:17] = 255  # 12 x 24 becomes 6 x 4 by its middle, 12 x 8, and a pixel of blur
    assert load_predictor(workdir).decode(_png(pixels)).min() == 255


def test_a_margin_around_the_centre_is_left_out_as_in_training(workdir):
    predictor = load_predictor(workdir)
    config = with_fields(predictor.config, {"data.center_crop": 0.5})
    pixels = np.zeros((24, 16, 3), np.uint8)
    pixels[5:19, 3:13] = 255  # the middle half is 12 x 8
    assert predictor.decode(_png(pixels)).min() < 10
    assert dataclasses.replace(predictor, config=config).decode(_png(pixels)).min() == 255


def test_image_files_have_one_or_three_channels():
    check_decodable(SPEC)
    with pytest.raises(InputError, match="5 channels"):
        check_decodable(dataclasses.replace(SPEC, image_shape=(4, 4, 5)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: (run / "dataset.json").unlink(), "dataset.json is missing or damaged"),
        (lambda run: (run / "dataset.json").write_text("[]"), "dataset.json is missing or damaged"),
        (lambda run: (run / "normalization.npz").unlink(), "normalization.npz can't be read"),
        (lambda run: _set_spec(run, image_shape=(8, 8, 3)), "of another network.*logits/kernel"),
        (lambda run: _damage(run / "checkpoints" / "2"), "checkpoint .*2 is damaged"),
        (lambda run: (run / "checkpoints").rename(run / "other"), "no checkpoint in"),
        (lambda run: _set_config(run, population=Population(seeds=2)), "population; .*members/000"),
    ],
)
def test_what_is_missing_or_damaged_is_named(workdir, tmp_path, change, message):
    shutil.copytree(workdir, tmp_path / "run")
    change(tmp_path / "run")
    with pytest.raises(InputError, match=message):
        load_predictor(tmp_path / "run")


def _set_config(run, **fields):
    create_run(run, dataclasses.replace(read_config(run), **fields))


def _set_spec(run, **fields):
    write_spec(run, dataclasses.replace(read_spec(run), **fields))


def _damage(checkpoint: Path):
    (checkpoint / "default" / "_METADATA").write_text("{")
