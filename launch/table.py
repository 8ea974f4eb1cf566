"""What a person sees of a sweep under way: a live table on a terminal, plain lines elsewhere."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from launch.objectives import Objective
from launch.results import fields, measured
from launch.trials import Point, Trials

_SHOWN = 10  # finished trials
_LEAST_HEAD = 6  # characters of a head in a line


class Display:
    """Shows lines on stderr and, on a terminal, a table of running and best trials below them."""

    def __init__(self, trials: Trials):
        self._trials = trials
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Prints a line above the table."""
        self.console.print(text, markup=False)

    def refresh(self) -> None:
        """Draws the table anew."""
        if self._live.is_started:
            self._live.update(table(self._trials, self.console.width), refresh=True)


def table(trials: Trials, width: int) -> Table:
    """Returns the running trials and the best of the finished ones, in so many characters.

    Heads are folded, so that no number is cut; fields for which there is no room are left out, and
    counted below.
    """
    study, objectives = trials.study, trials.settings.objectives
    everything = study.get_trials(deepcopy=False)
    states = Counter(trial.state.name.lower() for trial in everything)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(states.items()))
    names = fields(study)
    rows = [_running(point, names, objectives) for point in trials.running.values()]
    rows += [_cells(trial, names, objectives) for trial in _finished(everything, objectives)]
    heads = ["trial", "state", *map(_short(names).get, names), *(o.name for o in objectives)]
    widths = _widths([*zip(heads, *rows, strict=True)], len(names), width)
    drawn = Table(title=f"{study.study_name}: {counts}", box=box.SIMPLE_HEAD, title_justify="left")
    for head, room in zip(heads, widths, strict=True):
        if room:
            drawn.add_column(head, width=room, overflow="fold")
    for row in rows:
        drawn.add_row(*(cell for cell, room in zip(row, widths, strict=True) if room))
    if left_out := widths.count(0):
        drawn.caption = f"columns that need a wider terminal: {left_out}"
        drawn.caption_justify = "left"
    return drawn


def _widths(columns: Sequence[Sequence[str]], fields_count: int, width: int) -> list[int]:
    """Returns a width for each column of head and cells; 0 for those that find no room.

    Trial, state and objectives go before the fields between them. First each gets what its cells
    need, of the state its words; what is left then goes to those whose heads are longer.
    """
    objectives = range(2 + fields_count, len(columns))
    order = [0, 1, *objectives, *range(2, 2 + fields_count)]
    widths, room = [0] * len(columns), width - 1  # the edge; every column has 3 between it and next
    for i in order:
        head, *cells = columns[i]
        parts = " ".join(cells).split() if i == 1 else cells
        need = max(map(len, [head[:_LEAST_HEAD], *parts]))
        if need + 3 <= room:
            widths[i], room = need, room - need - 3
    for i in order:
        if widths[i]:
            more = min(max(map(len, columns[i])) - widths[i], room)
            widths[i], room = widths[i] + more, room - more
    return widths


def line(trial: FrozenTrial, objectives: Sequence[Objective]) -> str:
    """Returns a finished trial in a line: its fields, and its values with their uncertainty."""
    chosen = " ".join(f"{name}={number(value)}" for name, value in trial.params.items())
    return f"{chosen}: {', '.join(_values(trial, objectives))}"


def number(value: Any) -> str:
    """Returns a field's value, a real number to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()


def plus_minus(values: Mapping[str, float | None]) -> str:
    """Returns a mean with half its confidence interval.

    >>> plus_minus({"mean": 0.98765, "ci95": 0.0123}), plus_minus({"mean": 0.5, "ci95": None})
    ('0.9877 ± 0.0123', '0.5000')
    """
    mean, half = values["mean"], values["ci95"]
    text = f"{mean:.4f}" if abs(mean) < 1000 else f"{mean:,.0f}"
    return text if half is None else f"{text} ± {half:.4f}"


def _values(trial: FrozenTrial, objectives: Sequence[Objective]) -> list[str]:
    return [f"{name} {plus_minus(each)}" for name, each in measured(trial, objectives).items()]


def _short(names: Sequence[str]) -> dict[str, str]:
    """Returns each field's last part, or the whole where two end alike."""
    last = [name.rpartition(".")[2] for name in names]
    return {n: short if last.count(short) == 1 else n for n, short in zip(names, last, strict=True)}


def _finished(trials: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> list[FrozenTrial]:
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    sign = -1 if objectives[0].maximize else 1
    return sorted(done, key=lambda trial: sign * trial.values[0])[:_SHOWN]


def _running(point: Point, names: Sequence[str], objectives: Sequence[Objective]) -> list[str]:
    latest = point.latest
    state = f"seed {latest['seed']}, epoch {latest.get('epoch', 0):.1f}" if latest else "starting"
    chosen = [number(point.fields[name]) if name in point.fields else "" for name in names]
    values = [f"{latest[o.name]:.4f}" if o.name in latest else "" for o in objectives]
    return [str(point.number), state, *chosen, *values]


def _cells(trial: FrozenTrial, names: Sequence[str], objectives: Sequence[Objective]) -> list[str]:
    chosen = [number(trial.params[name]) if name in trial.params else "" for name in names]
    values = [plus_minus(each) for each in measured(trial, objectives).values()]
    return [str(trial.number), trial.state.name.lower(), *chosen, *values]
