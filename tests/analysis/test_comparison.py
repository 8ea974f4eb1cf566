"""The report of several runs: groups, means, and what differs."""

from cnn_jax.analysis.comparison import accuracy_spread, named_groups, plus_minus, write_comparison
from cnn_jax.analysis.run_record import read_record
from cnn_jax.config import Config, Optim, Train
from cnn_jax.spread import spread
from cnn_jax.training.run_directory import create_run
from cnn_jax.whole_files import write_json
from tests.analysis.html import Page
from tests.analysis.records import RESULT, record


def _runs():
    accuracies = [0.70, 0.72, 0.77]
    seeds = [
        record(seed=i, workdir=f"runs/{i}", result=RESULT | {"test_accuracy": accuracy})
        for i, accuracy in enumerate(accuracies)
    ]
    other = record(optim=Optim(learning_rate=0.5), devices=3, workdir="runs/<other>")
    return [*seeds, other, record(seed=9, workdir="runs/9", result=None)]


def test_runs_that_differ_in_the_seed_alone_are_one_group():
    groups = named_groups(_runs())
    assert [(name, len(records)) for name, records in groups] == [
        ("made_up, learning_rate 0.1", 4),
        ("made_up, learning_rate 0.5", 1),
    ]
    assert accuracy_spread(groups[0][1]) == spread([0.70, 0.72, 0.77])
    assert accuracy_spread([record(result=None)]) is None


def test_groups_are_named_as_shortly_as_tells_them_apart():
    assert [name for name, _ in named_groups([record(), record(seed=1)])] == ["made_up"]
    two = [record(), record(name="other", optim=Optim(learning_rate=0.5))]
    assert [name for name, _ in named_groups(two)] == ["made_up", "other"]
    far = Optim(name="adam", learning_rate=1.0, epsilon=1.0), Train(epochs=3)
    many = [record(workdir="runs/a"), record(workdir="runs/b", optim=far[0], train=far[1])]
    assert [name for name, _ in named_groups(many)] == ["made_up, a", "made_up, b"]
    alike = [record(workdir="a/seed_0"), record(workdir="b/seed_0", optim=far[0], train=far[1])]
    assert [name for name, _ in named_groups(alike)] == ["made_up, a/seed_0", "made_up, b/seed_0"]


def test_what_a_population_cut_short_is_in_no_mean_and_a_seed_counts_once(tmp_path):
    def run(number, **result):
        return record(seed=number % 3, workdir=f"runs/{number}", result=RESULT | result)

    twice = [run(0, test_accuracy=0.7), run(1, test_accuracy=0.72), run(3, test_accuracy=0.1)]
    ended = [run(2, test_accuracy=0.2, ended=why, steps=5) for why in ("halving", "diverged")]
    first = record(seed=0, workdir="runs/first", result=None)
    assert accuracy_spread([first, *twice, *ended]) == spread([0.7, 0.72])
    assert accuracy_spread(ended) is None
    page, *_ = write_comparison(tmp_path, named_groups([first, *twice, *ended]))
    text = Page(page.read_text(encoding="utf-8")).text
    for part in [
        "Of a config and seed that are there already, and so in no mean: runs/first, runs/3.",
        "Ended by their population before their time, and so in no mean: runs/2, runs/2.",
        "71.00% ± 12.71",
        "runs/2 made_up 2 5 20.00%",
    ]:
        assert part in text, part


def test_the_page_holds_means_differences_and_every_run(tmp_path):
    written = write_comparison(tmp_path, named_groups(_runs()))
    assert all(path.is_file() for path in written)
    page = Page(written[0].read_text(encoding="utf-8"))
    assert len(page.all("svg")) == 5
    for part in [
        "5 runs in 2 groups", "73.00% ± 8.96", "3.61%", "optim.learning_rate 0.1 0.5",
        "runs/<other>", "Not finished, and so in curves alone: runs/9.", "not finished",
    ]:  # fmt: skip
        assert part in page.text, part
    assert "devices" not in page.text


def test_the_top_5_accuracy_has_a_column_where_some_run_has_it(tmp_path):
    five = [RESULT | {"test_top5_accuracy": accuracy} for accuracy in (0.94, 0.95, 0.99)]
    runs = [record(seed=i, result=result) for i, result in enumerate(five)]
    for given, shown in ((runs, True), (_runs(), False)):
        page, *_ = write_comparison(tmp_path, named_groups(given))
        text = Page(page.read_text(encoding="utf-8")).text
        assert ("top-5 accuracy" in text, "96.00% ± 6.57" in text) == (shown, shown)


def test_columns_that_no_run_has_are_left_out(tmp_path):
    """A population's members share their speed, which is in none of their rows."""
    runs = [record(seed=i) for i in range(2)]
    for row in (row for run in runs for row in run.rows):
        del row["images_per_second"]
    figures = {path.stem for path in write_comparison(tmp_path, named_groups(runs))[1:]}
    assert figures == {"accuracy", "loss", "learning_rate", "train_grad_norm"}


def test_runs_of_other_or_made_up_data_are_not_compared_silently(tmp_path):
    runs = [record(), record(synthetic=True)]
    runs[1].config.data.name = "synthetic"
    page = Page(write_comparison(tmp_path, named_groups(runs))[0].read_text(encoding="utf-8"))
    assert "several datasets" in page.text and "Synthetic data" in page.text


def test_a_mean_of_equal_or_few_runs():
    assert plus_minus([0.5, 0.5]) == "0.5000 ± 0.0000"
    assert plus_minus([0.5], percent=True) == "50.00%"


def test_a_loss_that_is_not_finite_is_shown_as_such(tmp_path):
    create_run(tmp_path, Config())
    write_json(tmp_path / "result.json", {"test_loss": None})
    losses = [read_record(tmp_path).result["test_loss"], 1.0]
    assert plus_minus(losses) == "nan"
