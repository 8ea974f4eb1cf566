"""The report of several runs: curves over each other, what differs, and means over seeds."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cnn_jax.analysis import page
from cnn_jax.analysis.page import Html, name, tag
from cnn_jax.analysis.report import (
    CAPTIONS,
    captioned,
    curves,
    duration,
    value_text,
    write_report,
)
from cnn_jax.analysis.run_record import RunRecord, counted, differing, group_names, grouped
from cnn_jax.spread import spread

Group = tuple[str, Sequence[RunRecord]]

_FIVE = "top-5 accuracy"  # a column where some run has it: of 20 classes and more


def named_groups(records: list[RunRecord]) -> list[Group]:
    """Returns the runs in groups that differ in their seeds alone, each with a name."""
    groups = grouped(records)
    return list(zip(group_names(groups), groups, strict=True))


def accuracy_spread(records: Sequence[RunRecord]) -> dict[str, float | int | None] | None:
    """Returns the `spread` of the test accuracies of the finished runs that are `counted`.

    It is None if there is none.
    """
    values = [record.result["test_accuracy"] for record in counted(records) if record.result]
    return spread(values) if values else None


def write_comparison(directory: Path, groups: Sequence[Group]) -> list[Path]:
    """Writes the figures and the page of several runs; returns the page's path first.

    Raises:
      OSError: the directory can't be written.
    """
    title = " and ".join(key for key, _ in groups) if len(groups) < 3 else f"{len(groups)} configs"
    return write_report(directory, title, curves(groups), partial(_body, title, groups))


def _body(title: str, groups: Sequence[Group], drawn: dict[str, str]) -> Iterable[Html]:
    runs = sum(len(records) for _, records in groups)
    yield tag("h1", name(title))
    count = f"{runs} runs in {len(groups)} {'groups' if len(groups) > 1 else 'group'}"
    yield tag("p", f"{count}; the runs of one differ in nothing but the seed.", class_="note")
    yield from (tag("p", text, class_="notice") for text in _notices(groups))
    yield tag("h2", "Results")
    yield page.table(*_results(groups), numbers=range(1, 9))
    yield tag("p", "Mean ± half of its 95% confidence interval (Student’s t); one run has none.",
              class_="note")  # fmt: skip
    yield tag("h2", "Curves")
    captions = {
        "accuracy": "Accuracy in validation (solid) and training (dashed); the circle is the best "
        "evaluation of each run.",
        "loss": "Loss: in training that of each run’s objective, in validation the cross-entropy.",
        **CAPTIONS,
    }
    yield page.columns(*captioned(drawn, captions))
    yield tag("h2", "What differs")
    fields = differing([records[0].config for _, records in groups])
    if fields:
        rows = [(field, *map(value_text, values)) for field, values in fields.items()]
        yield page.table(("config field", *(name(key) for key, _ in groups)), rows)
    else:
        yield tag("p", "Nothing but the seed.", class_="note")
    yield tag("h2", "Runs")
    yield page.table(*_runs(groups), numbers=range(2, 8))


def _notices(groups: Sequence[Group]) -> Iterable[str]:
    records = [record for _, each in groups for record in each]
    if any(record.spec and record.spec.synthetic for record in records):
        yield "Synthetic data: the images of some runs are made up; their accuracy means nothing."
    unfinished = [str(record.workdir) for record in records if record.result is None]
    if unfinished:
        yield f"Not finished, and so in curves alone: {', '.join(unfinished)}."
    ended = [str(record.workdir) for record in records if record.cut_short]
    if ended:
        yield f"Ended by their population before their time, and so in no mean: {', '.join(ended)}."
    again = [
        str(record.workdir)
        for _, each in groups
        for record in each
        if record not in counted(each) and not record.cut_short
    ]
    if again:
        yield f"Of a config and seed that are there already, and so in no mean: {', '.join(again)}."
    if len({record.config.data.name for record in records}) > 1:
        yield "The runs are of several datasets: their accuracies can't be compared."


def _results(groups: Sequence[Group]) -> tuple[Sequence[Any], list[Sequence[Any]]]:
    header = (
        "config",
        "runs",
        "test accuracy",
        "standard deviation",
        _FIVE,
        "test loss",
        "best validation accuracy",
        "parameters",
        "training images/s",
    )
    rows, five = [_group_row(key, records) for key, records in groups], header.index(_FIVE)
    if not any(row[five] for row in rows):
        header, *rows = ((*row[:five], *row[five + 1 :]) for row in (header, *rows))
    return header, rows


def _group_row(key: str, records: Sequence[RunRecord]) -> Sequence[Any]:
    records = counted(records)
    results = [record.result for record in records if record.result]
    best = [record.best["validation_accuracy"] for record in records if record.best]
    accuracy = [result["test_accuracy"] for result in results]
    five = [each for result in results if (each := result.get("test_top5_accuracy")) is not None]
    deviation = (accuracy_spread(records) or {}).get("std")
    rates = [each for result in results if (each := result.get("images_per_second"))]
    return (
        name(key),
        len(results),
        tag("b", plus_minus(accuracy, percent=True)),
        "" if deviation is None else f"{deviation:.2%}",
        plus_minus(five, percent=True),
        plus_minus([result["test_loss"] for result in results]),
        plus_minus(best, percent=True),
        f"{results[0]['parameters']:,}" if results else "",
        f"{spread(rates)['mean']:,.0f}" if rates else "",
    )


def plus_minus(values: Sequence[float], *, percent: bool = False) -> str:
    """Returns mean ± half of the 95% confidence interval as text.

    >>> plus_minus([0.9, 0.92, 0.97], percent=True), plus_minus([0.25]), plus_minus([])
    ('93.00% ± 8.96', '0.2500', '')
    """
    if not values:
        return ""
    if not all(map(math.isfinite, values)):
        return "nan"
    found = spread(values)
    text = f"{found['mean']:.2%}" if percent else f"{found['mean']:.4f}"
    if found["ci95"] is None:
        return text
    return f"{text} ± {100 * found['ci95']:.2f}" if percent else f"{text} ± {found['ci95']:.4f}"


def _runs(groups: Sequence[Group]) -> tuple[Sequence[Any], list[Sequence[Any]]]:
    header = (
        "directory",
        "config",
        "seed",
        "steps",
        "test accuracy",
        "test loss",
        "best validation accuracy",
        "wall time",
    )
    return header, [_run_row(key, record) for key, records in groups for record in records]


def _run_row(key: str, record: RunRecord) -> Sequence[Any]:
    result, best = record.result, record.best
    return (
        name(str(record.workdir)),
        name(key),
        record.config.seed,
        f"{record.steps:,}",
        f"{result['test_accuracy']:.2%}" if result else "not finished",
        f"{result['test_loss']:.4f}" if result else "",
        f"{best['validation_accuracy']:.2%}" if best else "",
        duration(sum(result["seconds"].values())) if result else "",
    )
