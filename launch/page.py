"""A sweep as one self-contained HTML page: the best, what mattered, and every trial."""

import base64
import html
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from launch.objectives import Objective
from launch.results import best_trials, measured, rows
from launch.table import number, plus_minus

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2em .8em; border-bottom: 1px solid #ddd; white-space: nowrap; }
div { overflow-x: auto; } img { max-width: 100%; }
pre { background: #f6f6f6; padding: 1em; white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def write_page(
    path: Path, study: optuna.Study, objectives: Sequence[Objective], command: str
) -> None:
    """Writes the page; what it shows needs nothing but the file."""
    parts = [
        f"<h1>{html.escape(study.study_name)}</h1>",
        f"<pre>{html.escape(command)}</pre>",
        _counts(study),
        _best(study, objectives),
        *_pictures(study, objectives),
        "<h2>Trials</h2>",
        _table(rows(study, objectives)),
    ]
    head = f"<meta charset='utf-8'><title>{html.escape(study.study_name)}</title>"
    text = f"<!doctype html><html><head>{head}<style>{_STYLE}</style></head><body>"
    path.write_text(f"{text}{''.join(parts)}</body></html>\n", encoding="utf-8")


def _counts(study: optuna.Study) -> str:
    trials = study.get_trials(deepcopy=False)
    counts = [
        f"{count} {state.name.lower()}"
        for state in TrialState
        if (count := sum(trial.state == state for trial in trials))
    ]
    return f"<p>{len(trials)} trials: {', '.join(counts)}.</p>"


def _best(study: optuna.Study, objectives: Sequence[Objective]) -> str:
    best = best_trials(study, objectives)
    title = "Best trial" if len(objectives) == 1 else "Best trials: the Pareto front"
    lines = [
        {
            "trial": trial.number,
            **trial.params,
            **{name: plus_minus(each) for name, each in measured(trial, objectives).items()},
        }
        for trial in best
    ]
    note = "Mean over the seeds ± half the 95% confidence interval. Chosen without the test split."
    return f"<h2>{title}</h2>{_table(lines)}<p>{note}</p>" if best else ""


def _table(lines: Sequence[dict[str, Any]]) -> str:
    if not lines:
        return ""
    columns = list(dict.fromkeys(name for each in lines for name in each))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_text(row.get(c)))}</td>" for c in columns) + "</tr>"
        for row in lines
    )
    return f"<div><table><tr>{head}</tr>{body}</table></div>"


def _text(value: Any) -> str:
    return "" if value is None else number(value) if not isinstance(value, str) else value


def _pictures(study: optuna.Study, objectives: Sequence[Objective]) -> list[str]:
    """Returns the plots that these trials allow: some need two or more that differ."""
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.visualization import matplotlib as plots

    # Optuna's own looks at the best tenth of the trials alone, which of small sweeps is one.
    evaluator = FanovaImportanceEvaluator(seed=0)
    parts = []
    for i, each in enumerate(objectives):
        target = {"target": lambda trial, i=i: trial.values[i], "target_name": each.name}
        for title, plot in {
            "History": plots.plot_optimization_history,
            "Importance": partial(plots.plot_param_importances, evaluator=evaluator),
            "Parallel coordinates": plots.plot_parallel_coordinate,
        }.items():
            parts += _picture(f"{title}: {each.name}", plot, study, target)
    if len(objectives) in (2, 3):
        names = {"target_names": [each.name for each in objectives]}
        parts += _picture("Pareto front", plots.plot_pareto_front, study, names)
    elif any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        parts += _picture("Curves", plots.plot_intermediate_values, study, {})
    return parts


def _picture(
    title: str, plot: Callable[..., Any], study: optuna.Study, options: dict[str, Any]
) -> list[str]:
    import matplotlib

    matplotlib.use("agg")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its fonts
    from matplotlib import pyplot

    finished = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if len(finished) < 2:
        return []
    heading = f"<h2>{html.escape(title)}</h2>"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            axes = plot(study, **options)
        except (ValueError, RuntimeError) as error:  # no field that varies, or all values alike
            return [heading, f"<p>Not drawn: {html.escape(str(error))}</p>"]
    figure = getattr(axes, "figure", None) or axes.flat[0].figure
    figure.set_size_inches(10, 5)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    data = base64.b64encode(image.getvalue()).decode()
    return [heading, f"<img alt='{html.escape(title)}' src='data:image/png;base64,{data}'>"]
