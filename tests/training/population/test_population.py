"""A whole population in process: what it leaves, and that stopping it anywhere changes nothing."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from cnn_jax.config import Augment, Population
from cnn_jax.errors import InputError, RunError
from cnn_jax.metric_rows import read_rows
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.population.directories import find_member
from cnn_jax.training.population.members import member_configs
from cnn_jax.training.population.results import summary
from cnn_jax.training.population.run import train_population
from cnn_jax.training.run_directory import read_config, read_json
from cnn_jax.whole_files import strict
from tests.training.interrupted import crash, interrupted, sigterm
from tests.training.tiny import saved_state, tiny_config

pytestmark = pytest.mark.usefixtures("optax_promotes")


def config_of(train=(), **population):
    config = tiny_config(**dict(train))
    config.population = Population(**population)
    return config


CONFIG = config_of(seeds=2, values="optim.learning_rate=0.05,0.3")
CONFIG.data.test_mirror = True
CONFIG.train.patience = 3
HALVED = config_of(
    {"log_every": 4}, seeds=4, halving=(0.1,), strategy="vmap", values="model.dropout=0.3"
)


def stop_at(config, workdir, step, act=crash):
    """Trains until the step is taken, then acts."""
    with interrupted(step, act):
        train_population(config, workdir)


def members(workdir):
    return sorted((workdir / "members").iterdir())


def rows_of(workdir):
    rows = read_rows(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


def lasting(result):
    """Returns what of a result does not depend on the clock or on stops."""
    names = ("steps", "seed", "parameters", "test_accuracy", "test_loss", "best_validation")
    return strict({name: result[name] for name in names})


def assert_same_states(workdir, other):
    for one, another in zip(members(workdir), members(other), strict=True):
        for which in ("last", "best"):
            step, state = saved_state(one, read_config(one), which)
            other_step, other_state = saved_state(another, read_config(another), which)
            assert step == other_step
            for leaf, expected in zip(*map(jax.tree.leaves, (state, other_state)), strict=True):
                np.testing.assert_array_equal(leaf, expected)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, optax_promotes):
    workdir = tmp_path_factory.mktemp("population")
    train_population(CONFIG, workdir)
    return workdir


@pytest.fixture(scope="module")
def halved(tmp_path_factory, optax_promotes):
    workdir = tmp_path_factory.mktemp("halved")
    train_population(HALVED, workdir)
    return workdir


def test_a_member_leaves_what_its_run_alone_leaves(straight, tmp_path):
    directory = members(straight)[3]
    config = read_config(directory)
    assert (config.seed, config.optim.learning_rate) == (1, 0.3)
    alone = train_and_evaluate(config, tmp_path)
    result = read_json(directory / "result.json")
    assert set(alone) <= set(result)
    for name in ("test_accuracy", "test_loss"):
        np.testing.assert_allclose(result[name], alone[name], atol=1e-4)
    for name in ("steps", "test_examples", "parameters", "best_validation", "stopped_early"):
        assert result[name] == alone[name]
    for which in ("last", "best"):
        step, state = saved_state(directory, config, which)
        other_step, other = saved_state(tmp_path, config, which)
        assert step == other_step
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), state, other)
    for row, expected in zip(rows_of(directory), rows_of(tmp_path), strict=True):
        assert list(row) == list(expected)
        np.testing.assert_allclose(list(row.values()), list(expected.values()), atol=1e-4)


def test_the_result_states_members_and_means(straight):
    result = read_json(straight / "result.json")
    each = result["members"]
    assert [(m["values"]["optim.learning_rate"], m["seed"]) for m in each] == [
        (0.05, 0), (0.05, 1), (0.3, 0), (0.3, 1),
    ]  # fmt: skip
    assert {m["ended"] for m in each} == {"finished"}
    accuracies = [m["test_accuracy"] for m in each]
    assert result["test_accuracy"] == pytest.approx(np.mean(accuracies))
    assert result["test_accuracy_std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert result["test_accuracy_ci95"] == pytest.approx(
        3.18244630528 / 2 * np.std(accuracies, ddof=1)
    )
    first = result["combinations"][0]
    assert first["values"] == {"optim.learning_rate": 0.05}
    assert first["test_accuracy"]["mean"] == pytest.approx(np.mean(accuracies[:2]))
    assert result["strategy"] == "each"
    assert (result["test_examples"], result["steps"]) == (297, 12)


def test_rows_hold_the_means_and_each_member(straight):
    for row in rows_of(straight):
        for name in ("train_loss", "learning_rate"):
            assert row[name] == pytest.approx(np.mean([m[name] for m in row["members"]]))
        scores = [m.get("validation_accuracy", m["train_accuracy"]) for m in row["members"]]
        assert row["best_accuracy"] == max(scores)


@pytest.mark.parametrize(("act", "step"), [(crash, 4), (sigterm, 7)])  # 7 is between two rows
def test_stopped_and_resumed_it_ends_as_the_straight_one(straight, tmp_path, act, step):
    stop_at(CONFIG, tmp_path, 7, act)
    result = train_population(CONFIG, tmp_path)
    assert result["resumed_from_step"] == step
    assert_same_states(tmp_path, straight)
    assert rows_of(tmp_path) == rows_of(straight)
    expected = read_json(straight / "result.json")
    assert lasting(result) == lasting(expected)
    for one, other in zip(result["members"], expected["members"], strict=True):
        assert lasting(one) == lasting(other)


def test_the_weaker_half_ends_at_each_rung(halved):
    rows = rows_of(halved)
    counts = [sum(m is not None for m in row["members"]) for row in rows]
    assert counts == [4, 2, 2]
    result = read_json(halved / "result.json")
    ended = [(m["ended"], m["steps"]) for m in result["members"]]
    assert sorted(ended) == [("finished", 12), ("finished", 12), ("halving", 4), ("halving", 4)]
    scores = {i: m["validation_accuracy"] for i, m in enumerate(rows[0]["members"])}
    kept = sorted(scores, key=scores.get, reverse=True)[:2]
    assert {i for i, m in enumerate(rows[1]["members"]) if m} == set(kept)
    finished = [m["test_accuracy"] for m in result["members"] if m["ended"] == "finished"]
    assert result["test_accuracy"] == pytest.approx(np.mean(finished))


def test_a_shrunken_program_is_resumed_bit_for_bit(halved, tmp_path):
    stop_at(HALVED, tmp_path, 8, sigterm)
    train_population(HALVED, tmp_path)
    assert_same_states(tmp_path, halved)
    assert rows_of(tmp_path) == rows_of(halved)


def test_members_end_one_by_one(tmp_path, capsys):
    train = {"steps": 40, "eval_every": 2, "log_every": 100, "checkpoint_every": 100}
    config = config_of(
        {**train, "patience": 2, "min_change": 0.2}, values="optim.learning_rate=1e-12,1e38"
    )
    config.optim.warmup = 0.0
    patient, diverged = train_population(config, tmp_path)["members"]
    assert (patient["ended"], patient["steps"], patient["stopped_early"]) == ("patience", 6, True)
    assert patient["best_validation"]["step"] == 2
    assert diverged["ended"] == "diverged"
    err = capsys.readouterr().err
    assert err.index("2 members, by strategy") < err.index("compiling for 2 members")
    assert "member 1 (seed=0 optim.learning_rate=1e+38) ends at step" in err
    assert "is not finite; it is frozen" in err
    shutil.rmtree(tmp_path / "members" / "000")
    (tmp_path / "result.json").unlink()
    again = train_population(config, tmp_path)["members"]  # killed after the last step
    assert [lasting(m) for m in again] == [lasting(m) for m in (patient, diverged)]


def test_a_member_that_diverges_before_a_stop_is_judged_at_the_next_row(tmp_path):
    fields = {"log_every": 5, "eval_every": 5, "checkpoint_every": 5, "skip_nonfinite": 3}
    config = config_of({**fields, "steps": 10}, values="optim.learning_rate=0.05,1e38")
    config.optim.warmup, config.population.strategy = 0.0, "vmap"
    train_population(config, tmp_path / "straight")
    stop_at(config, tmp_path / "stopped", 8, sigterm)
    train_population(config, tmp_path / "stopped")
    assert rows_of(tmp_path / "stopped") == rows_of(tmp_path / "straight")
    assert_same_states(tmp_path / "stopped", tmp_path / "straight")


def test_members_are_found_by_their_numbers(straight, tmp_path):
    shutil.copytree(straight, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "members" / "000")
    (tmp_path / "run" / "members" / ".DS_Store").touch()
    assert find_member(tmp_path / "run", 1).name == "001"
    with pytest.raises(InputError, match="no member 0; they are numbered 1 to 3"):
        find_member(tmp_path / "run", 0)
    shutil.rmtree(tmp_path / "run" / "members")
    with pytest.raises(InputError, match="has lost its members' directories"):
        find_member(tmp_path / "run", 1)


def test_a_loss_that_is_not_finite_is_left_out_of_the_mean():
    one = {"ended": "finished", "test_accuracy": 0.5, "best_validation": None, "values": {}}
    one |= {"skipped_steps": 0, "test_loss": np.nan}
    assert summary([one], [{}])["test_loss"] is None
    assert summary([one, {**one, "test_loss": 2.0}], [{}])["test_loss"] == 2.0


@pytest.mark.parametrize("name", ["test_top5_accuracy", "test_label_accuracy"])
def test_an_accuracy_that_only_some_data_gets_has_its_mean_too(name):
    one = {"ended": "finished", "test_accuracy": 0.5, "best_validation": None, "values": {}}
    one |= {"skipped_steps": 0, "test_loss": 1.0, name: 0.75}
    ended = {**one, "ended": "halving", name: 0.0}
    assert summary([ended, one, {**one, name: 0.25}], [{}])[name] == 0.5


def test_what_cannot_be(tmp_path):
    config = config_of(values="optim.learning_rate=1e37,1e38")
    config.optim.warmup = 0.0
    with pytest.raises(RunError, match="every member diverged"):
        train_population(config, tmp_path / "a")
    with pytest.raises(InputError, match="has not finished"):
        find_member(tmp_path / "a", 0)
    config = config_of(seeds=2, halving=(0.5,))
    config.data.validation_fraction = 0.0
    with pytest.raises(InputError, match=r"set data.validation_fraction"):
        train_population(config, tmp_path / "b")
    rare = config_of({"eval_every": 12}, seeds=4, halving=(0.25, 0.5))
    with pytest.raises(InputError, match=r"on steps 12, 12, with .* train.eval_every to at most 3"):
        train_population(rare, tmp_path / "b")
    config.data.feed = "streaming"
    with pytest.raises(InputError, match="a population takes resident"):
        train_population(config, tmp_path / "b")
    cropped = {"image_size": 8, "crop_files": True, "augment": Augment(resized_crop=0.08)}
    config.data = dataclasses.replace(config.data, feed="auto", **cropped)
    with pytest.raises(InputError, match="a population takes images held on the device"):
        train_population(config, tmp_path / "b")
    with pytest.raises(InputError, match=r"model.depth can't differ"):
        train_population(config_of(values="model.depth=20,56"), tmp_path / "b")
    with pytest.raises(InputError, match="hue needs images with 3 channels"):
        train_population(config_of(values="data.augment.hue=0.1,0.2"), tmp_path / "b")
    with pytest.raises(InputError, match="unknown option of the network tiny 'drop_path'"):
        train_population(config_of(values="model.drop_path=0.1,0.2"), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert len(member_configs(config)) == 2
