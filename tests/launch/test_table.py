"""The live table: running trials first, then the best of the finished ones."""

import io

from rich.console import Console

from cnn_jax.metric_rows import METRICS
from cnn_jax.whole_files import write_text
from launch import pool
from launch.table import table
from launch.trial_commands import plan, rows_so_far
from tests.launch.sweeps import run, settings


def drawn(trials, width=120):
    console = Console(file=io.StringIO(), width=width)
    console.print(table(trials, width))
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
    (command,) = plan([point], trials.settings)
    command.workdir.mkdir(parents=True)
    write_text(
        command.workdir / METRICS, '{"step": 4, "validation_accuracy": null}\n{"step": 8, "val'
    )
    ((row,),) = rows_so_far(command)
    point.latest = {"seed": 0, **row}
    assert drawn(trials)[3][-1] == "nan"
    point.lock.close()


MANY = [
    "optim.learning_rate=1.196e-05", "optim.weight_decay=0.0001234", "data.augment.cutmix=0.75",
    "train.label_smoothing=0.05", "data.batch_size=1024", "optim.clip_norm=12.25",
]  # fmt: skip


def test_in_a_narrow_terminal_no_number_is_cut(fake_train, no_page):
    trials = pool.open_trials(settings(fake_train, *MANY))
    (point,) = trials.ask()
    point.latest = {"seed": 10, "epoch": 12.5, "validation_accuracy": 0.5}
    whole = {"0", "10,", "12.5", "0.5000"}
    chosen = ["1.196e-05", "0.0001234", "0.75", "0.05", "1024", "12.25"]
    assert whole | {*chosen} <= {word for line in drawn(trials) for word in line}
    words = {word for line in drawn(trials, 60) for word in line}
    assert whole | {*chosen[:3]} <= words and not {*chosen[3:]} & words
    assert drawn(trials, 60)[-1] == ["columns", "that", "need", "a", "wider", "terminal:", "3"]
    assert whole <= {word for line in drawn(trials, 30) for word in line}
    for width in (30, 60, 80, 120):
        text = " ".join(word for line in drawn(trials, width) for word in line)
        assert "…" not in text
    point.lock.close()
