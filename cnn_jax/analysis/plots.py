"""The figures of a run: rows and arrays in, matplotlib figures out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from cnn_jax.analysis.calibration import Reliability
from cnn_jax.analysis.drawing import (
    GRID,
    HEAT,
    INK,
    MUTED,
    ON_HEAT,
    SERIES,
    label,
    new_figure,
    styled,
)
from cnn_jax.analysis.predictions import condensed
from cnn_jax.analysis.run_record import RunRecord, counted

MOST_CLASSES, MOST_POINTS = 30, 500
_MARKERS = ("None", "s", "^", "D", "v", "x")  # where there are more groups than colours
_LEGEND_CHARACTERS = 70  # that a line of it holds, with seven for each sample and gap
_HEAT_MAP = ListedColormap([(*to_rgb(HEAT), alpha) for alpha in np.linspace(0, 1, 256)])


@styled
def metric_curves(groups: Sequence[tuple[str, Sequence[RunRecord]]], metric: str) -> Figure:
    """Returns training and validation curves of `metric`, the best evaluations marked.

    Args:
      groups: named runs; those of one name have one colour. One run has a colour for each split.
      metric: "loss" or "accuracy".
    """
    figure, (axes,) = new_figure(2.9)
    alone = len(groups) == 1 and len(groups[0][1]) == 1
    for i, (_, records) in enumerate(groups):
        look = _look(1 if alone else i)
        for record in records:
            if alone:
                _line(axes, *record.series(f"train_{metric}"), **_look(0))
            else:
                train = record.series(f"train_{metric}")
                _line(axes, *train, **look, linestyle=(0, (3, 1.5)), linewidth=1, alpha=0.75)
            _line(axes, *record.series(f"validation_{metric}"), **look)
            _mark_best(axes, record, metric, look["color"])
    if alone:
        _legend(figure, _entries_of_one(groups[0][1][0], metric))
    else:
        _overlay_legend(figure, groups, metric)
    _epochs(axes, metric.capitalize())
    if metric == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    else:
        _log_if_wide(axes)
    return figure


_EVERY_TENTH = {"markersize": 3.5, "markevery": 0.1}
_MARK = {
    "marker": "o",
    "markersize": 6,
    "markeredgewidth": 1.6,
    "markerfacecolor": "none",
    "linestyle": "none",
}


def _look(i: int) -> dict[str, Any]:
    """Returns how the curves of group `i` look: those of one colour differ in their markers."""
    marker = _MARKERS[i // len(SERIES) % len(_MARKERS)]
    color = {"color": SERIES[i % len(SERIES)]}
    return color if marker == "None" else color | {"marker": marker, **_EVERY_TENTH}


def _legend_names(groups: Sequence[tuple[str, Sequence[RunRecord]]]) -> list[str]:
    """Returns the groups' names at a legend's length, numbered where some are equal when cut."""
    names = [label(name, instead=f"run {i + 1}", most=44) for i, (name, _) in enumerate(groups)]
    if len(set(names)) == len(names):
        return names
    return [f"{i}: {name}" for i, name in enumerate(names, 1)]


def _mark_best(axes: Axes, record: RunRecord, metric: str, color: str) -> None:
    best = record.best
    if best and f"validation_{metric}" in best:
        axes.plot([best["epoch"]], [best[f"validation_{metric}"]], color=color, zorder=4, **_MARK)


def _entries_of_one(record: RunRecord, metric: str) -> list[tuple[str, dict]]:
    """Returns the legend of a single run: only what its rows have."""
    entries = [("training", {"color": SERIES[0]})]
    if len(record.series(f"validation_{metric}")[0]):
        entries.append(("validation", {"color": SERIES[1]}))
    if (best := record.best) and f"validation_{metric}" in best:
        value = best[f"validation_{metric}"]
        text = f"{value:.2%}" if metric == "accuracy" else f"{value:.3g}"
        mark = _MARK | {"color": SERIES[1]}
        entries.append((f"best: {text}, epoch {best['epoch']:.3g}", mark))
    return entries


def _overlay_legend(
    figure: Figure, groups: Sequence[tuple[str, Sequence[RunRecord]]], metric: str
) -> None:
    entries = []
    for i, (text, (_, records)) in enumerate(zip(_legend_names(groups), groups, strict=True)):
        best = [each.best[f"validation_{metric}"] for each in counted(records) if each.best]
        if len(records) > 1:
            text += f" ({len(records)} runs)"
        if metric == "accuracy" and best:
            text += f", best {np.mean(best):.1%}"
        entries.append((text, _look(i)))
    entries.append(("validation", {"color": MUTED}))
    entries.append(("training", {"color": MUTED, "linestyle": (0, (3, 1.5)), "linewidth": 1}))
    entries.append(("best evaluation", _MARK | {"color": MUTED}))
    _legend(figure, entries)


@styled
def column_curves(
    groups: Sequence[tuple[str, Sequence[RunRecord]]], column: str, title: str
) -> Figure:
    """Returns the curves of one column of the metric rows, a colour for each named group."""
    figure, (axes,) = new_figure(2.5)
    for i, (_, records) in enumerate(groups):
        for record in records:
            _line(axes, *record.series(column), **_look(i))
    if column == "images_per_second":
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if len(groups) > 1:
        _legend(figure, [(name, _look(i)) for i, name in enumerate(_legend_names(groups))])
    _epochs(axes, title)
    if column == "train_grad_norm":
        _log_if_wide(axes)
    return figure


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, **options) -> None:
    """Draws a curve, its points averaged where there are too many; one point alone as a dot."""
    y = np.where(np.isfinite(y), y, np.nan)
    if len(x) > MOST_POINTS:
        x, y = (
            np.array([part.mean() for part in np.array_split(values, MOST_POINTS)])
            for values in (x, y)
        )
    single = {"marker": "o", "markersize": 4} if np.isfinite(y).sum() == 1 else {}
    axes.plot(x, y, **single | options)


def _legend(figure: Figure, entries: Sequence[tuple[str, dict]]) -> None:
    """Puts a legend below everything else, in as many columns as fit, and makes room for it."""

    def characters(columns: int) -> int:
        parts = np.array_split([len(text) + 7 for text, _ in entries], columns)
        return int(sum(part.max(initial=0) for part in parts))

    columns = next((n for n in (3, 2) if characters(n) <= _LEGEND_CHARACTERS), 1)
    handles = [Line2D([], [], label=text, **options) for text, options in entries]
    figure.legend(handles=handles, loc="outside lower left", ncols=columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * -(-len(entries) // columns))


def _epochs(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("epoch", loc="right", labelpad=2)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))
    axes.set_xlim(left=0)
    if not any(len(line.get_xdata()) for line in axes.lines):
        axes.text(0.5, 0.5, "nothing recorded", color=MUTED, ha="center", transform=axes.transAxes)


def _log_if_wide(axes: Axes) -> None:
    """Turns to a logarithmic scale where a linear one would flatten most of the curve."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines] or [[]])
    values = values[np.isfinite(values)]
    if len(values) > 2 and values.min() > 0 and values.max() / values.min() > 30:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(axes.get_title(loc="left") + " (log scale)")


@styled
def time_bars(seconds: dict[str, float]) -> Figure:
    """Returns where the time of a run went, stage by stage."""
    stages = sorted(seconds, key=seconds.__getitem__)
    values = np.array([seconds[stage] for stage in stages])
    figure, (axes,) = new_figure(0.7 + 0.26 * len(stages))
    axes.barh(stages, values, color=SERIES[0], height=0.62)
    total = values.sum()
    for y, value in enumerate(values):
        text = f"{value:,.1f} s · {value / total:.0%}" if total else ""
        axes.annotate(text, (value, y), (5, 0), textcoords="offset points", va="center")
    axes.set_title(f"Time, {total:,.1f} s in all")
    axes.set_xlim(0, max(values.max(initial=0), 1e-9) * 1.32)
    axes.grid(False)
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.set_xticks([])
    axes.tick_params("y", colors=INK)
    return figure


@styled
def confusion_heat_map(
    matrix: Int[np.ndarray, "classes classes"], class_names: Sequence[str], *, rates: bool
) -> Figure:
    """Returns a confusion matrix as a heat map: counts, or shares of the true class.

    Of more than `MOST_CLASSES` classes it shows those of the commonest mistakes, the others as one.
    Classes are named where their names can be drawn, else numbered.
    """
    small, kept = condensed(matrix, most=MOST_CLASSES)
    names = [label(class_names[i], instead="") for i in kept]
    if not all(names) or len(set(names)) < len(names):
        names = [str(i) for i in kept]
    names += ["others"] * (len(small) - len(kept))
    totals = np.maximum(small.sum(axis=1, keepdims=True), 1)
    shown = small[: len(kept), : len(kept)]  # the sum of all others would outshine them
    values = small / (totals if rates else max(shown.max(), 1))
    figure, (axes,) = new_figure(4.6)
    axes.imshow(np.sqrt(values), cmap=_HEAT_MAP, vmin=0, vmax=1, interpolation="none")
    size = min(8, 190 / len(small))
    turned = len(small) * max(map(len, names)) > 45
    places = np.arange(len(small))
    axes.set_xticks(places, names, fontsize=size, rotation=90 if turned else 0)
    axes.set_yticks(places, names, fontsize=size)
    axes.set_title("Share of the true class, %" if rates else "Examples")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.grid(False)
    axes.spines[:].set(visible=True, color=GRID)
    if len(small) <= 20:
        _write_cells(axes, 100 * values if rates else small, np.sqrt(values))
    return figure


def _write_cells(axes: Axes, numbers: np.ndarray, shade: np.ndarray) -> None:
    size = min(9, 130 / len(numbers))
    for (i, j), number in np.ndenumerate(numbers):
        text = f"{number:.0f}" if number >= 0.5 else "<1" if number else ""
        size_here = size * min(1, 3.4 / max(len(text), 1))
        color = ON_HEAT if shade[i, j] > 0.75 else INK
        axes.text(j, i, text, ha="center", va="center", color=color, fontsize=size_here)


@styled
def reliability_diagram(diagram: Reliability, error: float) -> Figure:
    """Returns accuracy over confidence, and below it how the examples spread over confidence."""
    figure, (upper, lower) = new_figure(4.0, rows=(3, 1))
    width = np.diff(diagram.edges)
    middle = diagram.edges[:-1] + width / 2
    upper.bar(middle, diagram.accuracy, 0.9 * width, color=SERIES[0])
    upper.plot([0, 1], [0, 1], color=MUTED, linestyle=(0, (3, 2)), linewidth=1)
    ends = middle - 0.45 * width, middle + 0.45 * width
    upper.hlines(diagram.confidence, *ends, color=SERIES[1], linewidth=2.5)
    upper.set_title(f"Accuracy by confidence, ECE {error:.2%}")
    upper.set(xlim=(0, 1), ylim=(0, 1.02))
    lower.bar(middle, diagram.counts / max(diagram.counts.sum(), 1), 0.9 * width, color=SERIES[0])
    lower.set_title("Share of the examples", fontsize=9, fontweight="normal", pad=4)
    lower.set_xlabel("confidence")
    lower.set(xlim=(0, 1))
    lower.yaxis.set_major_locator(MaxNLocator(3))
    for axes in (upper, lower):
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    entries = [
        ("accuracy", {"color": SERIES[0], "linewidth": 6, "solid_capstyle": "butt"}),
        ("mean confidence", {"color": SERIES[1], "linewidth": 2.5}),
        ("perfect calibration", {"color": MUTED, "linestyle": (0, (3, 2)), "linewidth": 1}),
    ]
    _legend(figure, entries)
    return figure
