"""What a run survives, and what it ends with when it can't go on."""

import dataclasses
import math
import os
import resource
import shutil

import jax
import numpy as np
import pytest

from cnn_jax.data.normalization import Normalization
from cnn_jax.errors import InputError, RunError
from cnn_jax.metric_rows import read_rows
from cnn_jax.training import checkpoint
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.device_steps import sharded_eval_step
from cnn_jax.training.evaluation import evaluate
from cnn_jax.training.feeding import eval_batches
from cnn_jax.training.interruption import Stopped
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.ownership import own_directory
from cnn_jax.training.population.run import PopulationRun
from cnn_jax.training.restore import restore_run
from cnn_jax.training.run_directory import create_run, locked, read_json
from cnn_jax.training.setup import build_experiment
from cnn_jax.training.state import model_variables
from tests.training.interrupted import interrupted, sigterm
from tests.training.tiny import saved_state, tiny_config

pytestmark = pytest.mark.usefixtures("optax_promotes")
CONFIG = tiny_config(eval_every=100)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("straight")
    train_and_evaluate(CONFIG, workdir)
    return workdir


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory):
    """A run that crashed at step 10, with the checkpoints of steps 4 and 8 complete."""
    workdir = tmp_path_factory.mktemp("broken")
    with interrupted(10):
        train_and_evaluate(CONFIG, workdir)
    return workdir


def assert_ends_alike(workdir, straight):
    (_, one), (_, other) = saved_state(workdir, CONFIG), saved_state(straight, CONFIG)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
    steps = [row["step"] for row in read_rows(workdir / "metrics.jsonl")]
    assert steps == [row["step"] for row in read_rows(straight / "metrics.jsonl")]


def data_files(checkpoint):
    return [path for path in checkpoint.rglob("*") if path.is_file()]


def truncate(checkpoint):
    for path in data_files(checkpoint):
        os.truncate(path, path.stat().st_size // 2)


def remove_metadata(checkpoint):
    next(path for path in data_files(checkpoint) if path.name == "_METADATA").unlink()


def fill_with_garbage(checkpoint):
    for path in data_files(checkpoint):
        path.write_bytes(b"\x5a" * path.stat().st_size)


@pytest.mark.parametrize("damage", [truncate, remove_metadata, fill_with_garbage])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    broken_off, straight, tmp_path, capsys, damage
):
    workdir = tmp_path / "run"
    shutil.copytree(broken_off, workdir)
    damage(workdir / "checkpoints" / "8")
    train_and_evaluate(CONFIG, workdir)
    err = capsys.readouterr().err
    assert "checkpoints/8 is damaged and set aside as damaged-8" in err
    assert "at step 4" in err
    assert_ends_alike(workdir, straight)


def test_with_every_checkpoint_damaged_the_run_starts_anew(broken_off, straight, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(broken_off, workdir)
    for step in ("4", "8"):
        truncate(workdir / "checkpoints" / step)
    train_and_evaluate(CONFIG, workdir)
    assert capsys.readouterr().err.count("is damaged") == 2
    assert read_json(workdir / "result.json")["resumed_from_step"] == 0
    assert_ends_alike(workdir, straight)


def test_a_checkpoint_of_another_network_is_refused_and_kept(broken_off, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(broken_off, workdir)
    text = (workdir / "config.json").read_text()
    (workdir / "config.json").write_text(text.replace('"tiny"', '"lenet_same"'))
    config = tiny_config(eval_every=100)
    config.name = config.model.name = "lenet_same"
    with pytest.raises(InputError, match=r"another network or optimizer: .* is .* there, not"):
        train_and_evaluate(config, workdir)
    assert checkpoints_of(workdir) == ["4", "8"]


def test_a_gradient_that_is_not_finite_ends_the_run_with_its_step(tmp_path):
    config = tiny_config(steps=6, log_every=3)
    config.optim.learning_rate = 1e38
    config.optim.warmup = 0.0
    with pytest.raises(RunError, match=r"gradient of .* is not finite at step [2-6]"):
        train_and_evaluate(config, tmp_path)
    assert not (tmp_path / "result.json").exists()


def nan_in_the_second_batch(key, batch):
    """NaN pixels in about a quarter of the steps, by the step's own key."""
    bad = jax.random.uniform(key) < 0.25
    image = jax.numpy.where(bad, jax.numpy.nan, batch["image"])
    return {**batch, "image": image}


def test_bad_steps_are_skipped_and_counted_up_to_a_limit(tmp_path):
    config = tiny_config(skip_nonfinite=8, eval_every=100)
    result = train_and_evaluate(config, tmp_path / "a", augment_fn=nan_in_the_second_batch)
    assert 1 <= result["skipped_steps"] <= 8
    _, state = saved_state(tmp_path / "a", config)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    config = tiny_config(skip_nonfinite=result["skipped_steps"] - 1, eval_every=100)
    with pytest.raises(RunError, match="not finite"):
        train_and_evaluate(config, tmp_path / "b", augment_fn=nan_in_the_second_batch)


def test_a_second_run_in_the_directory_is_refused(straight, tmp_path):
    tmp_path.joinpath("run").mkdir()
    with locked(tmp_path / "run"), pytest.raises(InputError, match="another process trains in"):
        train_and_evaluate(CONFIG, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_another_run_that_began_there_meanwhile_is_left_as_it_is(tmp_path):
    experiment = build_experiment(CONFIG)
    create_run(tmp_path, tiny_config(log_every=5))
    before = (tmp_path / "config.json").read_bytes()
    with (
        pytest.raises(InputError, match=r"holds another run: train.log_every is 5 there"),
        own_directory(tmp_path, experiment),
    ):
        pass
    assert (tmp_path / "config.json").read_bytes() == before
    assert not (tmp_path / "dataset.json").exists()


def test_a_run_does_not_go_on_with_other_images(broken_off, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(broken_off, workdir)
    constants = Normalization.load(workdir / "normalization.npz")
    dataclasses.replace(constants, mean=constants.mean + 0.1).save(workdir / "normalization.npz")
    before = (workdir / "normalization.npz").read_bytes()
    with pytest.raises(InputError, match="no longer those that the run in"):
        train_and_evaluate(CONFIG, workdir)
    assert (workdir / "normalization.npz").read_bytes() == before
    for step in ("4", "8"):
        shutil.rmtree(workdir / "checkpoints" / step)
    train_and_evaluate(CONFIG, workdir)  # it has taken no step that counts


def test_what_would_have_no_effect_is_refused_of_a_new_run(tmp_path):
    config = tiny_config(patience=2)
    config.data.validation_fraction = 0.0
    with pytest.raises(InputError, match=r"train.patience compares by the validation split"):
        train_and_evaluate(config, tmp_path / "run")
    config = tiny_config()
    config.population.strategy = "vmap"
    with pytest.raises(InputError, match=r"population.strategy is vmap, but this is a single run"):
        train_and_evaluate(config, tmp_path / "run")
    config = tiny_config()
    config.data.augment.saturation = 0.2  # of the digits, which are gray
    with pytest.raises(InputError, match=r"saturation needs colours; these images have 1 channel"):
        train_and_evaluate(config, tmp_path / "run")
    config = tiny_config(batch_statistics="ghost")
    config.model.name = "lenet_same"
    with pytest.raises(InputError, match=r"ghost, but lenet_same has no batch norm"):
        train_and_evaluate(config, tmp_path / "run")
    for values, message in (
        ("saturation=0.1,0.2", "saturation needs colours"),
        ("rand_magnitude=3,9", "rand_magnitude is 3.0, but RandAugment is off"),
    ):
        config = tiny_config()
        config.population.values = f"data.augment.{values}"
        with pytest.raises(InputError, match=message):
            train_and_evaluate(config, tmp_path / "run", run_type=PopulationRun)
    with pytest.raises(InputError, match=r"draws 304,000,000,000 examples; .* data.feed=streaming"):
        train_and_evaluate(tiny_config(steps=10**9), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_time_limit_stops_with_a_checkpoint_and_resuming_agrees(straight, tmp_path):
    limited = tiny_config(eval_every=100, max_seconds=1e-3)
    with pytest.raises(Stopped, match=r"train.max_seconds=0.001 at step 1 of 12"):
        train_and_evaluate(limited, tmp_path)
    train_and_evaluate(CONFIG, tmp_path)
    (_, one), (_, other) = saved_state(tmp_path, CONFIG), saved_state(straight, CONFIG)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_stopped_again_before_its_first_row_loses_nothing(tmp_path):
    fields = {"steps": 4, "eval_every": 100, "log_every": 4}
    for step in (1, 2):
        with pytest.raises(Stopped, match=f"at step {step} of 4, saved"):
            train_and_evaluate(tiny_config(**fields, max_seconds=1e-3), tmp_path / "stopped")
    unlimited = tiny_config(**fields)
    for workdir in ("stopped", "whole"):
        train_and_evaluate(unlimited, tmp_path / workdir)
    stopped, whole = (read_rows(tmp_path / each / "metrics.jsonl") for each in ("stopped", "whole"))
    for row, other in zip(stopped, whole, strict=True):
        assert row | {"images_per_second": 0} == other | {"images_per_second": 0}


def test_a_row_tells_the_rate_of_its_last_update(tmp_path):
    config = tiny_config(skip_nonfinite=8, eval_every=100, log_every=1)
    train_and_evaluate(config, tmp_path, augment_fn=nan_in_the_second_batch)
    rows, updates = read_rows(tmp_path / "metrics.jsonl"), 0
    rate = jax.jit(build_experiment(config).learning_rate)
    for row in rows:
        updates += math.isfinite(row["train_loss"])
        assert row["learning_rate"] == rate(max(0, updates - 1))
    assert 0 < updates < len(rows)


def test_a_skipped_step_counts_in_no_mean(tmp_path):
    config = tiny_config(skip_nonfinite=8, eval_every=100, log_every=6)
    result = train_and_evaluate(config, tmp_path, augment_fn=nan_in_the_second_batch)
    assert result["skipped_steps"] > 0
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert np.isfinite([[row["train_loss"], row["train_grad_norm"]] for row in rows]).all()
    assert all(row["images_per_second"] > 0 for row in rows)


# The thread in which a save fails closes its event loop before all that waits on it is collected.
ORBAX_LEAVES_A_LOOP = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def full_after_step_5(monkeypatch):
    """From then on files can't grow beyond what metrics need: a full disk that needs no rights."""
    save, before = Checkpoints.save, resource.getrlimit(resource.RLIMIT_FSIZE)

    def filled(self, step, state, facts=None):
        if step > 5:
            self.wait()
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        save(self, step, state, facts)

    monkeypatch.setattr(Checkpoints, "save", filled)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def large_config(**train):
    """Returns a run with an array larger than the room that is left; smaller ones may still fit."""
    config = tiny_config(eval_every=100, **train)
    config.model.name, config.model.width = "lenet_same", 2.0
    return config


def checkpoints_of(workdir, last=""):
    """Returns what there is but the half checkpoint of the last step, which may still be written.

    Orbax's threads outlive a save that has failed by a moment; the next run removes what they left.
    """
    names = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    return [name for name in names if not (last and name.startswith(f"{last}.orbax"))]


@ORBAX_LEAVES_A_LOOP
def test_a_full_disk_ends_the_run_with_earlier_files_whole(full_after_step_5, tmp_path):
    with pytest.raises(RunError, match=r"checkpoint of step 8 can't be written: .*too large"):
        train_and_evaluate(large_config(), tmp_path)
    assert checkpoints_of(tmp_path, last="8") == ["4"]
    rows = [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")]
    assert rows[:4] == [2, 4, 6, 8]


@ORBAX_LEAVES_A_LOOP
def test_a_run_may_go_on_with_a_full_disk(full_after_step_5, tmp_path, capsys):
    result = train_and_evaluate(large_config(on_save_error="continue"), tmp_path)
    err = capsys.readouterr().err
    for step in (8, 12):
        assert f"the checkpoint of step {step} can't be written: " in err
    assert result == read_json(tmp_path / "result.json")
    assert checkpoints_of(tmp_path, last="12") == ["4"]


@ORBAX_LEAVES_A_LOOP
def test_a_stop_that_cannot_be_saved_does_not_claim_a_checkpoint(full_after_step_5, tmp_path):
    not_saved = r"stopped by SIGTERM at step 6, not saved: .* can't be written"
    with interrupted(6, sigterm, raises=RunError, match=not_saved):
        train_and_evaluate(large_config(on_save_error="continue"), tmp_path)


def test_a_checkpoint_of_another_format_is_refused(broken_off, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(broken_off, workdir)
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
    with pytest.raises(InputError, match=r"checkpoints/8 has checkpoint format 1, .* format 2"):
        train_and_evaluate(CONFIG, workdir)
    assert checkpoints_of(workdir) == ["4", "8"]


@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_a_run_without_improvement_ends_early_with_its_best_weights(monitor, tmp_path):
    config = tiny_config(steps=40, eval_every=2, log_every=100, checkpoint_every=100, patience=2)
    config.train.monitor = monitor
    config.optim.learning_rate = 1e-12
    config.train.min_change = 0.2
    result = train_and_evaluate(config, tmp_path)
    assert result["stopped_early"]
    assert (result["best_validation"]["step"], result["steps"]) == (2, 6)
    assert saved_state(tmp_path, config, "best")[0] == 2
    row = read_rows(tmp_path / "metrics.jsonl")[0]
    assert result["best_validation"][monitor] == row[f"validation_{monitor}"]


def test_with_patience_the_best_weights_are_tested_even_after_the_last_step(tmp_path):
    config = tiny_config(steps=4, eval_every=2, checkpoint_every=2, patience=9, min_change=0.99)
    result = train_and_evaluate(config, tmp_path)
    assert not result["stopped_early"]
    assert (result["best_validation"]["step"], result["steps"]) == (2, 4)
    experiment, step, state = restore_run(tmp_path, which="best")
    test = experiment.dataset.test
    found = evaluate(
        jax.jit(sharded_eval_step(experiment)),
        model_variables(state),
        eval_batches(experiment, test),
        examples=len(test),
    )
    assert step == 2
    assert found.metrics["loss"] == pytest.approx(result["test_loss"], rel=1e-5)
