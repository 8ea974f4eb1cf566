"""A whole run in process: what it leaves, and that stopping it anywhere changes nothing."""

import json

import jax
import numpy as np
import pytest

from cnn_jax.errors import InputError
from cnn_jax.metric_rows import read_rows
from cnn_jax.training.clock import Clock
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.run_directory import read_json
from cnn_jax.training.single_run import SingleRun
from tests.training.interrupted import Crash, crash, interrupted, sigterm
from tests.training.tiny import saved_state, tiny_config

pytestmark = pytest.mark.usefixtures("optax_promotes")
CONFIG = tiny_config()


def _interrupted(workdir, step, act):
    """Trains until the step is taken, then acts; returns what that raised."""
    with interrupted(step, act) as caught:
        train_and_evaluate(CONFIG, workdir)
    return caught.value


def _rows(workdir):
    rows = read_rows(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


def _assert_same_state(workdir, other, which="last"):
    (step, state), (other_step, other_state) = (
        saved_state(directory, CONFIG, which) for directory in (workdir, other)
    )
    assert step == other_step
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        expected = dict(jax.tree_util.tree_leaves_with_path(other_state))[path]
        np.testing.assert_array_equal(leaf, expected, err_msg=jax.tree_util.keystr(path))


def _lasting(result):
    """Returns what of a result does not depend on the clock or on stops."""
    names = ("steps", "seed", "parameters", "test_accuracy", "test_loss", "test_examples")
    return {name: result[name] for name in (*names, "best_validation")}


@pytest.fixture(scope="module")
def straight(tmp_path_factory, optax_promotes):
    """A run never interrupted."""
    workdir = tmp_path_factory.mktemp("straight")
    train_and_evaluate(CONFIG, workdir)
    return workdir


def test_rows_come_in_order_with_what_was_due(straight):
    rows = read_rows(straight / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    validated = [row["step"] for row in rows if "validation_accuracy" in row]
    assert validated == [4, 8, 12]
    assert rows[-1]["epoch"] == 12 * 304 / 1350
    rates = [row["learning_rate"] for row in rows]
    assert np.argmax(rates) == 1 and rates[-1] < rates[1]
    assert all(np.isfinite(list(row.values())).all() for row in rows)


def test_the_result_says_what_was_done(straight):
    result = read_json(straight / "result.json")
    assert (result["config"], result["steps"], result["seed"]) == ("tiny", 12, 0)
    assert result["test_examples"] == 297
    assert result["parameters"] == 36 + 8 + 64 * 10 + 10
    assert result["resumed_from_step"] == 0
    assert result["devices"] == 1
    rows = _rows(straight)
    scores = {r["step"]: r["validation_accuracy"] for r in rows if "validation_accuracy" in r}
    best = result["best_validation"]
    assert best == {"step": max(scores, key=scores.get), "accuracy": max(scores.values())}
    assert saved_state(straight, CONFIG, "best")[0] == best["step"]
    assert saved_state(straight, CONFIG, "last")[0] == 12


def test_fields_without_effect_are_named(tmp_path, capsys):
    class Begun(SingleRun):
        def start(self):
            raise Crash

    config = tiny_config()
    config.optim.beta1, config.optim.milestones = 0.5, (0.5,)
    with pytest.raises(Crash):
        train_and_evaluate(config, tmp_path, run_type=Begun)
    assert capsys.readouterr().err == (
        "without effect with optim.name=sgd optim.schedule=cosine: optim.beta1, optim.milestones\n"
    )


def test_the_loss_falls(straight):
    losses = [row["train_loss"] for row in _rows(straight)]
    assert losses[-1] < losses[0]


def test_a_finished_run_says_so_and_stays_as_it_is(straight, capsys):
    before = {path: path.stat().st_mtime_ns for path in straight.rglob("*")}
    result = train_and_evaluate(CONFIG, straight)
    assert result == read_json(straight / "result.json")
    assert "holds a finished run" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in straight.rglob("*")} == before


def test_another_config_in_the_same_directory_is_refused(straight):
    with pytest.raises(InputError, match=r"train.steps is 12 there, not 13"):
        train_and_evaluate(tiny_config(steps=13), straight)


def test_a_run_stopped_again_and_again_ends_as_the_straight_one(straight, tmp_path, capsys):
    assert isinstance(_interrupted(tmp_path, 2, crash), Crash)  # before any checkpoint
    assert isinstance(_interrupted(tmp_path, 7, crash), Crash)  # after that of step 4
    stopped = _interrupted(tmp_path, 8, sigterm)
    assert "stopped by SIGTERM at step 8 of 12" in str(stopped)
    assert f"--workdir={tmp_path}" in str(stopped)
    assert isinstance(_interrupted(tmp_path, 11, crash), Crash)
    assert not (tmp_path / "result.json").exists()
    capsys.readouterr()
    result = train_and_evaluate(CONFIG, tmp_path)
    assert f"resumed {tmp_path} at step 8" in capsys.readouterr().err
    assert result["resumed_from_step"] == 8
    for which in ("last", "best"):
        _assert_same_state(tmp_path, straight, which)
    assert _rows(tmp_path) == _rows(straight)
    assert _lasting(result) == _lasting(read_json(straight / "result.json"))


def test_a_stop_between_rows_changes_nothing_either(straight, tmp_path):
    _interrupted(tmp_path, 5, sigterm)
    assert [row["step"] for row in _rows(tmp_path)] == [2, 4]
    result = train_and_evaluate(CONFIG, tmp_path)
    assert result["resumed_from_step"] == 5
    _assert_same_state(tmp_path, straight)
    assert _rows(tmp_path) == _rows(straight)


def test_the_seconds_sum_to_the_wall_time(straight, tmp_path, monkeypatch):
    monkeypatch.setattr("time.perf_counter", iter(np.arange(1e6)).__next__)
    clock = Clock("import", start=-10.0)
    result = train_and_evaluate(tiny_config(steps=2), tmp_path, clock=clock)
    seconds = result["seconds"]
    assert sum(seconds.values()) == clock._since + 10
    assert seconds["import"] >= 10
    assert all(seconds[stage] > 0 for stage in ("data", "compile", "train", "evaluate"))
    assert result["train_seconds"] == seconds["train"] + seconds["input"]
    json.dumps(result)
