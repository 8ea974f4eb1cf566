"""How trials are handed out, pruned, taken back and finished; the training command is a fake."""

import csv
import json
import os
import signal
import sys
import threading

import optuna
import pytest
from optuna.trial import TrialState

from launch import pool, results
from launch.command_line import LaunchError
from launch.devices import Place
from tests.launch.sweeps import kill_while_training, run, settings, starts, states

pytestmark = pytest.mark.usefixtures("no_page")


def test_a_grid_is_run_once_with_several_seeds_and_the_best_is_left(fake_train, no_page):
    no_page.undo()
    given = settings(fake_train, seeds=2)
    trials = run(given, workers=2)
    once = {f"{i:04d}/seed_{s}": 1 for i in range(3) for s in range(2)}
    assert starts(fake_train) == once
    values = [trial.value for trial in trials.study.get_trials()]
    assert values == pytest.approx([1 - gap - 0.1 / 3 - 0.005 for gap in (0.2, 0.1, 0.1)])
    best = json.loads((fake_train / "sweep/best.json").read_text())
    assert best["optim"]["learning_rate"] in (0.2, 0.4)
    with open(fake_train / "sweep/trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["optim.learning_rate"] for row in rows] == ["0.1", "0.2", "0.4"]
    half = 12.7062 * 0.01 / 2  # Student's t with one degree of freedom, std 0.01/√2
    assert float(rows[0]["validation_accuracy_ci95"]) == pytest.approx(half, rel=1e-3)
    page = (fake_train / "sweep/sweep.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and "http" not in page
    run(given)
    assert starts(fake_train) == once


def test_the_storage_is_one_that_optuna_and_its_dashboard_read(fake_train):
    run(settings(fake_train))
    backend = optuna.storages.journal.JournalFileBackend(str(fake_train / "sweep/journal.log"))
    study = optuna.load_study(study_name="mine", storage=optuna.storages.JournalStorage(backend))
    assert study.best_params["optim.learning_rate"] in (0.2, 0.4)
    assert len(study.trials[0].intermediate_values) == 3


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe", "cmaes"])
def test_a_sampler_chooses_other_points_each_time_and_the_same_when_repeated(fake_train, sampler):
    params = "optim.learning_rate=log:1e-3:1", "optim.momentum=range:0:0.9"
    given = settings(fake_train, *params, sampler=sampler, trials=3)
    first = [trial.params for trial in run(given).study.get_trials()]
    assert len(set(map(repr, first))) == 3
    (fake_train / "sweep").rename(fake_train / "before")
    assert [trial.params for trial in run(given).study.get_trials()] == first


def test_more_trials_go_on_from_those_there_are(fake_train):
    param = "optim.learning_rate=log:1e-3:1"
    run(settings(fake_train, param, sampler="random", trials=1))
    trials = run(settings(fake_train, param, sampler="random", trials=3))
    assert states(trials) == ["COMPLETE"] * 3
    assert set(starts(fake_train).values()) == {1}


def test_the_same_point_is_not_run_again(fake_train):
    trials = run(settings(fake_train, sampler="random", trials=8))
    assert states(trials) == ["COMPLETE"] * 8
    assert len(starts(fake_train)) <= 3
    same = [t for t in trials.study.get_trials() if "same_as" in t.user_attrs]
    assert len(same) == 8 - len(starts(fake_train))
    for trial in same:
        assert trial.value == trials.study.get_trials()[trial.user_attrs["same_as"]].value


def test_a_process_that_is_killed_gives_its_trial_back_and_it_is_resumed(fake_train):
    trials = run(settings(fake_train, arguments=["--config.model.name=dies"]), workers=2)
    assert states(trials) == ["COMPLETE"] * 3
    assert set(starts(fake_train).values()) == {2}
    for path in (fake_train / "sweep").rglob("result.json"):
        assert json.loads(path.read_text())["resumed_from_step"] == 1
    assert [len(t.intermediate_values) for t in trials.study.get_trials()] == [3, 3, 3]


def test_a_trial_whose_process_is_killed_again_and_again_has_failed(fake_train):
    trials = run(settings(fake_train, "model.name=mortal"))
    (trial,) = trials.study.get_trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["error"] == "its process was ended by signal 9, 3 times"


def test_equal_failures_in_a_row_end_the_sweep_and_mended_it_goes_on(fake_train):
    rates = "optim.learning_rate=" + ",".join(f"0.{i}" for i in range(1, 9))
    given = settings(fake_train, rates, arguments=["--config.model.name=fails"])
    with pytest.raises(
        LaunchError, match="3 trials in a row failed at once: there is no data in DIR"
    ):
        run(given)
    assert len(starts(fake_train)) == 3
    (fake_train / "mended").touch()
    trials = run(given)
    done = [trial for trial in trials.study.get_trials() if trial.state == TrialState.COMPLETE]
    assert len(done) == 8 and len({trial.params["optim.learning_rate"] for trial in done}) == 8
    assert len(starts(fake_train)) == 8  # the failed ones went on in their own directories


def test_a_few_failures_among_good_trials_are_results(fake_train):
    params = "model.name=well,fails", "optim.learning_rate=0.1,0.2"
    trials = run(settings(fake_train, *params))
    assert sorted(states(trials)) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"]
    with open(fake_train / "sweep/trials.csv") as file:
        errors = {row["error"] for row in csv.DictReader(file)}
    assert errors == {"", "there is no data in DIR"}


def test_a_grid_gone_on_with_fewer_trials_trains_none(fake_train):
    rates = "optim.learning_rate=0.1,0.2,0.3,0.4,0.5"
    assert states(run(settings(fake_train, rates, trials=2))) == ["COMPLETE"] * 2
    assert states(run(settings(fake_train, rates, trials=1))) == ["COMPLETE"] * 2


@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_a_trial_behind_the_others_is_pruned_with_a_checkpoint(fake_train, pruner):
    """The last run waits after its second evaluation: it would never end by itself."""
    params = "model.name=straggles", "optim.learning_rate=0.3,0.31,0.32,0.33,0.34,0.9"
    trials = run(settings(fake_train, *params), pruner=pruner)
    assert states(trials) == ["COMPLETE"] * 5 + ["PRUNED"]
    assert trials.study.get_trials()[5].intermediate_values.keys() == {0, 1}
    assert not (fake_train / "sweep/trials/0005/seed_0/result.json").exists()


def test_a_sweep_that_is_stopped_saves_and_goes_on(fake_train):
    given = settings(fake_train, arguments=["--config.model.name=waits"])
    trials = pool.open_trials(given)
    stopper = threading.Thread(target=_stop_when_running, args=(trials, 2))
    stopper.start()
    pool.run(trials, [Place()] * 2, "")
    stopper.join()
    assert trials.stopping
    assert states(trials) == ["WAITING"] * 3
    assert starts(fake_train) == {"0000/seed_0": 1, "0001/seed_0": 1}
    (fake_train / "sweep/trials/0002/seed_0").mkdir(parents=True)
    (fake_train / "sweep/trials/0002/seed_0/metrics.jsonl").touch()  # so that it doesn't wait
    assert states(run(given)) == ["COMPLETE"] * 3
    assert starts(fake_train) == {"0000/seed_0": 2, "0001/seed_0": 2, "0002/seed_0": 1}


def test_ctrl_c_while_the_results_are_written_lets_them_be_written(fake_train, no_page):
    trials = run(settings(fake_train))
    interrupt = lambda *arguments: os.kill(os.getpid(), signal.SIGINT)
    no_page.setattr("launch.pool.write_page", interrupt)
    pool.run(trials, [Place()], "")
    assert trials.stopping


def _stop_when_running(trials, count):
    while sum(bool(point.latest) for point in list(trials.running.values())) < count:
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def test_several_objectives_leave_a_front(fake_train):
    params = "optim.learning_rate=0.1,0.3", "optim.momentum=0.1,0.9"
    trials = run(settings(fake_train, *params, objective="validation_accuracy,-parameters"))
    front = sorted(path.name for path in (fake_train / "sweep/front").iterdir())
    assert front == ["trial_0002.json"]  # the better rate, and the fewer parameters
    for name in ("notes.txt", "trial_0001.json"):
        (fake_train / "sweep/front" / name).touch()
    results.write(fake_train / "sweep", trials.study, trials.settings.objectives)
    front = sorted(path.name for path in (fake_train / "sweep/front").iterdir())
    assert front == ["notes.txt", "trial_0002.json"]
    assert trials.study.get_trials()[2].values == pytest.approx([1 - 0.1 / 3, 110])


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"arguments": ["--config.optim.momentum=0.5"]}, "config.optim.momentum is 0.9 there"),
        ({"seeds": 3}, "seeds is 1 there, not 3"),
        ({"objective": "-validation_loss"}, "objectives is ['validation_accuracy'] there"),
    ],
)
def test_a_storage_of_another_sweep_is_refused(fake_train, other, says):
    pool.open_trials(settings(fake_train))
    with pytest.raises(LaunchError) as refused:
        pool.open_trials(settings(fake_train, **other))
    assert says in str(refused.value)


def test_another_space_is_another_sweep(fake_train):
    pool.open_trials(settings(fake_train))
    with pytest.raises(LaunchError, match=r"space is .*there, not"):
        pool.open_trials(settings(fake_train, "optim.learning_rate=0.1,0.2"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the training process goes on")
def test_another_study_does_not_begin_among_the_runs_of_one(fake_train):
    given = settings(fake_train)
    run(given)
    other = settings(fake_train, "optim.learning_rate=0.001,0.002")
    for study, storage in (("second", ""), ("", str(fake_train / "other.log"))):
        with pytest.raises(LaunchError, match="holds the runs of another sweep"):
            pool.open_trials(other, study=study, storage=storage)
    assert states(run(given)) == ["COMPLETE"] * 3


def test_a_line_that_a_full_disk_has_torn_is_dropped(fake_train):
    given = settings(fake_train)
    run(given)
    journal = fake_train / "sweep/journal.log"
    os.truncate(journal, journal.stat().st_size - 17)
    assert states(run(given))[:2] == ["COMPLETE"] * 2
    assert set(states(run(given))) == {"COMPLETE"}


def test_a_sweep_that_is_killed_leaves_its_trial_to_another(fake_train):
    """Killed itself, not its training process, which is stopped by that."""
    given = settings(fake_train, "model.name=waits")
    kill_while_training(given, fake_train)
    assert states(pool.open_trials(given)) == ["RUNNING"]
    assert states(run(given)) == ["COMPLETE"]
    assert starts(fake_train) == {"0000/seed_0": 2}
    result = json.loads((fake_train / "sweep/trials/0000/seed_0/result.json").read_text())
    assert result["resumed_from_step"] == 1
