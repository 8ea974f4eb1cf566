"""Runs that share a training command come to what they would have come to alone."""

import json
import sys

import optuna
import pytest
from optuna.trial import TrialState

from cnn_jax.metric_rows import METRICS
from cnn_jax.whole_files import write_text
from launch import pool, worker
from launch.together import Group, Variable
from launch.trial_commands import plan
from launch.trials import Trials
from tests.launch.sweeps import kill_while_training, run, settings, starts, states

pytestmark = pytest.mark.usefixtures("no_page")

RATES = "optim.learning_rate=0.1,0.3,0.9"


def _found(trials):
    """What is known of each trial, but for where and how long it was trained."""
    return [
        (
            trial.params,
            trial.value,
            trial.intermediate_values,
            trial.user_attrs["config"],
            [(each["seed"], each["test_accuracy"]) for each in trial.user_attrs["runs"]],
        )
        for trial in trials.study.get_trials()
    ]


def _both_ways(place, *params, **options):
    """Returns what is found if each run has its command, and if they share commands."""
    alone = _found(run(settings(place, *params, **options)))
    (place / "sweep").rename(place / "alone")
    return alone, _found(run(settings(place, *params, together=16, **options)))


def test_a_grid_with_seeds_is_one_command_for_each_program(fake_train):
    params = "optim.learning_rate=0.1,0.3", "optim.momentum=0,0.5"  # without, another program
    alone, together = _both_ways(fake_train, *params, seeds=2)
    assert together == alone
    assert starts(fake_train) == {"0000/together_0": 1, "0001/together_0": 1}


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_a_sampler_chooses_the_points_that_it_chooses_for_runs_alone(fake_train, sampler):
    params = "optim.learning_rate=log:1e-2:1", "optim.momentum=range:0.1:0.9", "train.steps=2,3"
    alone, together = _both_ways(fake_train, *params, sampler=sampler, trials=6)
    assert together == alone
    assert len(starts(fake_train)) < 6


def test_a_sampler_that_learns_is_asked_for_a_few(fake_train):
    params = "optim.learning_rate=log:1e-2:1", "optim.momentum=range:0.1:0.9"
    trials = run(settings(fake_train, *params, sampler="tpe", trials=5, together=3))
    assert states(trials) == ["COMPLETE"] * 5
    assert starts(fake_train) == {"0000/together_0": 1, "0003/together_0": 1}


def test_a_point_that_comes_again_is_not_trained_again(fake_train):
    trials = run(settings(fake_train, sampler="random", trials=8, together=16))
    assert states(trials) == ["COMPLETE"] * 8
    assert sum("same_as" not in trial.user_attrs for trial in trials.study.get_trials()) <= 3
    assert set(starts(fake_train).values()) == {1}


def test_seeds_after_the_first_are_together_where_trials_are_pruned(fake_train):
    trials = run(settings(fake_train, seeds=3, together=16), pruner="median")
    assert states(trials)[0] == "COMPLETE"
    assert starts(fake_train)["0000/seed_0"] == starts(fake_train)["0000/together_1"] == 1


def test_what_is_refused_together_is_trained_alone(fake_train, capsys):
    given = settings(fake_train, "model.name=loner,well", RATES, together=16)
    trials = run(given)
    assert states(trials) == ["COMPLETE"] * 6
    assert starts(fake_train) == {f"{i:04d}/seed_0": 1 for i in range(6)}
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "trials 0, 1, 2: 3 runs are trained together in trials/0000/together_0"
    assert said[1].endswith("each run is tried alone: loners can't be trained together")
    assert sum("together" in line for line in said) == 2


def test_one_that_diverges_fails_and_the_others_go_on(fake_train):
    given = settings(fake_train, "model.name=diverges", RATES, seeds=2, together=16)
    trials = run(given)
    assert states(trials) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert starts(fake_train) == {"0000/together_0": 1}
    assert "seed 0 diverged at step 3" in trials.study.get_trials()[2].user_attrs["error"]


def test_a_process_that_dies_is_resumed_with_all_its_members(fake_train):
    trials = run(settings(fake_train, "model.name=dies", RATES, together=16), workers=2)
    assert states(trials) == ["COMPLETE"] * 3
    assert starts(fake_train) == {"0000/together_0": 2}


def test_those_that_die_again_and_again_are_tried_alone_before_they_fail(fake_train):
    params = "model.name=mortal", "optim.learning_rate=0.1,0.3"
    trials = run(settings(fake_train, *params, together=16))
    assert states(trials) == ["FAIL"] * 2
    assert starts(fake_train) == {"0000/together_0": 3, "0000/seed_0": 3, "0001/seed_0": 3}


def test_a_group_is_not_ended_by_one_of_its_runs(fake_train):
    """As one begun without a pruner and gone on with one might be."""
    given = settings(fake_train, "optim.learning_rate=0.3,0.9", together=16)
    trials = pool.open_trials(given)
    trials.study.pruner = optuna.pruners.ThresholdPruner(lower=0.5)
    points = trials.ask()
    (command,) = plan(points, given)
    row = {
        "step": 1,
        "epoch": 1,
        "members": [{"validation_accuracy": value} for value in (0.9, 0.1)],
    }
    command.workdir.mkdir(parents=True)
    write_text(command.workdir / METRICS, json.dumps(row))
    assert not worker.note_progress(trials, command)
    assert [point.latest["validation_accuracy"] for point in points] == [0.9, 0.1]
    assert points[1].trial.should_prune()  # alone it would be
    for point in points:
        point.lock.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the training process goes on")
def test_a_sweep_that_is_killed_leaves_its_group_to_another(fake_train):
    given = settings(fake_train, "model.name=waits", RATES, together=16)
    kill_while_training(given, fake_train)
    assert states(pool.open_trials(given)) == ["RUNNING"] * 3
    assert states(run(given, workers=2)) == ["COMPLETE"] * 3
    assert starts(fake_train) == {"0000/together_0": 2}


def _dies_after_the_first(monkeypatch):
    complete, finished = Trials.complete, []

    def once(*arguments):
        if finished:
            raise SystemExit
        finished.append(complete(*arguments))

    monkeypatch.setattr(Trials, "complete", once)


def test_what_has_been_trained_is_not_trained_again_for_those_not_yet_told(fake_train):
    given = settings(fake_train, RATES, together=16)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        _dies_after_the_first(patch)
        run(given)
    trials = run(given)
    values = [trial.value for trial in trials.study.get_trials()]
    assert values == pytest.approx([1 - gap - 0.1 / 3 for gap in (0.2, 0, 0.6)])
    assert starts(fake_train) == {"0000/together_0": 1}


def test_a_group_that_is_being_given_back_is_left_until_it_is_whole(fake_train):
    given = settings(fake_train, RATES, together=16)
    ours, theirs = pool.open_trials(given), pool.open_trials(given)
    points = ours.ask()
    for point in points:
        assert theirs.ask() == []
        ours.give_back(point)
    taken = theirs.ask()
    assert [point.number for point in taken] == [0, 1, 2]
    for point in taken:
        theirs.give_back(point)


def test_a_group_that_is_no_longer_whole_is_trained_alone(fake_train):
    given = settings(fake_train, RATES, together=16)
    trials = pool.open_trials(given)
    first, second, third = trials.ask()
    with second.lock:
        trials.prune(second)
    for point in (first, third):
        trials.give_back(point)
    assert states(run(given)) == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert starts(fake_train) == {"0000/seed_0": 1, "0002/seed_0": 1}
    assert trials.study.get_trials()[1].state == TrialState.PRUNED


def test_only_numbers_that_may_differ_are_left_out_of_what_is_in_common():
    may = Variable(frozenset({"model.dropout", "optim.momentum"}), frozenset({"optim.momentum"}))
    here = {"model.dropout": 0.5, "optim.momentum": 0.9, "data.batch_size": 32}

    def same(**other):
        return may.program(here) == may.program({**here, **other})

    assert same(**{"model.dropout": 0, "optim.momentum": 1})
    assert not same(**{"data.batch_size": 64})
    assert not same(**{"model.dropout": None})
    assert not same(**{"optim.momentum": 0.0})
    assert may.program({"model.dropout": 0.5}) != may.program({"optim.momentum": 0.5})


def test_a_group_is_kept_and_taken_apart():
    group = Group((3, 5), ((0, 1), (2,)))
    assert Group.from_json(group.to_json()) == group
    assert (group.runs, group.apart(5)) == (4, Group((5,), ((0,), (1,), (2,))))
