"""What a sweep has found: a table of its trials, and the config of the best."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from cnn_jax.spread import spread
from cnn_jax.whole_files import write_json, write_text
from launch.objectives import Objective


def fields(study: optuna.Study) -> list[str]:
    """Returns the fields that the trials vary, in the order in which they came."""
    trials = study.get_trials(deepcopy=False)
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def best_trials(study: optuna.Study, objectives: Sequence[Objective]) -> list[FrozenTrial]:
    """Returns the best trials, best by the first objective first.

    Of several objectives these are the Pareto front: each is better than any other in something.
    """
    best = [trial for trial in study.best_trials if "same_as" not in trial.user_attrs]
    sign = -1 if objectives[0].maximize else 1
    best.sort(key=lambda trial: (sign * trial.values[0], trial.number))
    return best[:1] if len(objectives) == 1 else best


def measured(trial: FrozenTrial, objectives: Sequence[Objective]) -> dict[str, dict]:
    """Returns the mean over a trial's seeds, with its 95% confidence interval, by objective."""
    runs = trial.user_attrs.get("runs", [])
    return {each.name: spread([run[each.name] for run in runs]) for each in objectives if runs}


def rows(study: optuna.Study, objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    """Returns a row for each trial: its state, fields, values and what it has cost."""
    names = fields(study)
    table = []
    for trial in study.get_trials(deepcopy=False):
        runs, values = trial.user_attrs.get("runs", []), measured(trial, objectives)
        table.append(
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                **{name: trial.params.get(name) for name in names},
                **{
                    column: values.get(each.name, {}).get(key)
                    for each in objectives
                    for column, key in ((each.name, "mean"), (f"{each.name}_ci95", "ci95"))
                },
                "seeds": len(runs),
                "evaluations": len(trial.intermediate_values),
                "seconds": sum(run["seconds"] for run in runs) if runs else None,
                "same_as": trial.user_attrs.get("same_as"),
                "error": trial.user_attrs.get("error"),
            }
        )
    return table


def summary(study: optuna.Study, objectives: Sequence[Objective]) -> dict[str, Any]:
    """Returns how many trials there are of each state, and the best.

    The test accuracy is that of trials chosen without it.
    """
    trials = study.get_trials(deepcopy=False)
    states = {s.name.lower(): sum(trial.state == s for trial in trials) for s in TrialState}
    best = [
        {
            "trial": trial.number,
            "fields": trial.params,
            **measured(trial, objectives),
            **_test(trial),
        }
        for trial in best_trials(study, objectives)
    ]
    return {"trials": len(trials), **states, "best": best}


def _test(trial: FrozenTrial) -> dict[str, Any]:
    values = [run["test_accuracy"] for run in trial.user_attrs["runs"]]
    return {"test_accuracy": spread(values)} if None not in values else {}


def write(workdir: Path, study: optuna.Study, objectives: Sequence[Objective]) -> None:
    """Writes `trials.csv`, and `best.json`, the config of the best trial.

    Of several objectives the Pareto front is in `front/` besides, a config each.
    """
    table = rows(study, objectives)
    if table:
        write_text(workdir / "trials.csv", _csv(table))
    best = best_trials(study, objectives)
    if best:
        write_json(workdir / "best.json", best[0].user_attrs["config"])
    if len(objectives) > 1:
        (workdir / "front").mkdir(exist_ok=True)
        wanted = {workdir / "front" / f"trial_{each.number:04d}.json": each for each in best}
        for path in set((workdir / "front").glob("trial_*.json")) - wanted.keys():
            path.unlink()
        for path, trial in wanted.items():
            write_json(path, trial.user_attrs["config"])


def _csv(table: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
