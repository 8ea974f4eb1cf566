"""What the reports of one run and of several share: curves, captions, and how they are written."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cnn_jax.analysis import drawing, page, plots
from cnn_jax.analysis.page import Html
from cnn_jax.analysis.run_record import RunRecord

FIGURES, PAGE = "figures", "report.html"
# Figures of single columns of the metric rows: their titles and, on the page, their captions.
COLUMNS = {
    "learning_rate": "Learning rate",
    "train_grad_norm": "Gradient norm",
    "images_per_second": "Images per second",
}
CAPTIONS = {
    "learning_rate": "As the schedule set it.",
    "train_grad_norm": "Mean over the steps of a row, before any clipping.",
    "images_per_second": "Training images per second, row by row.",
}


def write_report(
    directory: Path,
    title: str,
    figures: dict[str, Figure],
    body: Callable[[dict[str, str]], Iterable[Html]],
) -> list[Path]:
    """Writes named figures, and the page that body({name: svg}) makes of them; returns the files.

    The page comes first.

    Raises:
      OSError: the directory can't be written.
    """
    folder = directory / FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {name: drawing.save(figure, folder / name) for name, figure in figures.items()}
    text = page.page(title, body(drawn), theme=drawing.THEME)
    # Paths that are no text are shown with backslashes.
    (directory / PAGE).write_text(text, encoding="utf-8", errors="backslashreplace")
    files = [folder / f"{name}.{kind}" for name in drawn for kind in ("png", "svg")]
    return [directory / PAGE, *files]


def curves(groups: Sequence[tuple[str, Sequence[RunRecord]]]) -> dict[str, Figure]:
    """Returns the figures of the metric rows of named runs, by name; of what some row has."""
    rows = [row for _, records in groups for record in records for row in record.rows]
    known = {name for row in rows for name in row}
    metrics = [metric for metric in ("accuracy", "loss") if f"train_{metric}" in known]
    return {metric: plots.metric_curves(groups, metric) for metric in metrics} | {
        key: plots.column_curves(groups, key, title)
        for key, title in COLUMNS.items()
        if key in known
    }


def captioned(drawn: dict[str, str], captions: dict[str, str]) -> list[Html]:
    """Returns the figures there are with their captions, in the captions' order."""
    return [page.figure(drawn[key], text) for key, text in captions.items() if key in drawn]


def duration(seconds: float) -> str:
    """Returns a time in the units that suit it.

    >>> duration(12.34), duration(754), duration(7300)
    ('12.3 s', '12 min 34 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def value_text(value: Any) -> str:
    """Returns a config's value as it would be typed."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
