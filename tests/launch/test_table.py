"""The live table: running trials first, then the best of the finished ones."""

import io

from rich.console import Console

from cnn_jax.metric_rows import METRICS
from cnn_jax.whole_files import write_text
from launch import pool
from launch.jobs import plan, rows_so_far
from launch.table import table
from tests.launch.sweeps import run, settings


def drawn(trials):
    console = Console(file=io.StringIO(), width=120)
    console.print(table(trials))
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip()]


def test_finished_trials_are_sorted_and_running_ones_on_top(fake_train, no_page):
    given = settings(fake_train, seeds=2)
    run(given)
    trials = pool.open_trials(given)
    title, heads, _, *rows = drawn(trials)
    assert title == ["mine:", "3", "complete"]
    assert heads == ["trial", "state", "learning_rate", "validation_accuracy"]
    assert [row[0] for row in rows][-1] == "0" and rows[0][2:] == ["0.2", "0.8617", "±", "0.0635"]


def test_a_running_trial_shows_how_far_it_is(fake_train, no_page):
    trials = pool.open_trials(settings(fake_train))
    (point,) = trials.ask()
    point.latest = {"seed": 0, "epoch": 2.0, "validation_accuracy": 0.5}
    assert drawn(trials)[3] == ["0", "seed", "0,", "epoch", "2.0", "0.1", "0.5000"]
    point.lock.close()


def test_a_trial_with_a_loss_that_is_not_finite_is_shown_too(fake_train, no_page):
    """As JSON has no such number, the row holds null."""
    trials = pool.open_trials(settings(fake_train))
    (point,) = trials.ask()
    (job,) = plan([point], trials.settings)
    job.workdir.mkdir(parents=True)
    write_text(job.workdir / METRICS, '{"step": 4, "validation_accuracy": null}\n{"step": 8, "val')
    ((row,),) = rows_so_far(job)
    point.latest = {"seed": 0, **row}
    assert drawn(trials)[3][-1] == "nan"
    point.lock.close()
