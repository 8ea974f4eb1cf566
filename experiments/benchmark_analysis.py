"""Measures activation maximisation and Grad-CAM on a trained network, beside plain PyTorch.

    python -m experiments.benchmark_analysis --workdir=DIR [--layer=NAME] [--steps=200]
        [--peers=torch] [--rounds=5]

`classes` makes an image of every class, all as one batch, by the default `Recipe`;
`grad_cam` explains 256 test images in one batch. Every contender has a process of its own with the
run's weights; they take turns. A JSON object a line on stdout: the median of the rounds in seconds,
the least and the most, `first_seconds` with all compiling, and `ours_over_this`, our time divided
by the contender's, round by round, so that below 1 ours is faster. `largest_difference` is that of
Grad-CAM's maps to ours, as a share of the largest value; class images start from different noise.
"""

import contextlib
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich import box
from rich.console import Console
from rich.table import Table

from cnn_jax.analysis.activation_maximization import Recipe
from cnn_jax.analysis.features import layer_shapes, match_layers
from cnn_jax.errors import RunError
from cnn_jax.training.predictor import load_predictor
from experiments import command_line
from experiments.contenders import OURS, analysis, require
from experiments.contenders.rounds import median_range

_WORKDIR = command_line.define_workdir()
_PEERS = flags.DEFINE_list("peers", ["torch"], "contenders beside ours: torch")
_LAYER = flags.DEFINE_string("layer", None, "Grad-CAM's; default: the last of 4×4 or more")
_STEPS = flags.DEFINE_integer("steps", Recipe.steps, "of activation maximisation", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "turns of each contender", 1)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    workdir = command_line.read_workdir(_WORKDIR)
    peers = command_line.chosen("peer", _PEERS.value, ["torch"])
    require(peers)
    layer = _layer(workdir)
    recipe = Recipe(steps=_STEPS.value)
    records = compare([OURS, *peers], workdir, layer, recipe, rounds=_ROUNDS.value)
    for record in records:
        print(json.dumps(record), flush=True)
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 140, highlight=False)
    console.print(_table(records))


def _layer(workdir: Path) -> str:
    predictor = load_predictor(workdir)
    shapes = layer_shapes(predictor.model, predictor.spec.image_shape)
    if _LAYER.value is not None:
        return match_layers(_LAYER.value, shapes)[-1]
    return [name for name, s in shapes.items() if len(s) == 3 and min(s[:2]) >= 4][-1]


def compare(
    names: Sequence[str], workdir: Path, layer: str, recipe: Recipe, *, rounds: int
) -> list[dict[str, Any]]:
    """Returns a record for each contender and work, ours first.

    Raises:
      RunError: a contender fails.
    """
    context = multiprocessing.get_context("spawn")
    asking: dict[str, Connection] = {}
    for name in names:
        asking[name], answering = context.Pipe()
        arguments = (answering, name, workdir, layer, recipe)
        context.Process(target=_serve, args=arguments, daemon=True).start()
        answering.close()
    works = {name: _answer(name, connection) for name, connection in asking.items()}
    turns = {(name, work): [] for work in works[OURS] for name in names}
    for _ in range(rounds + 1):  # the first compiles
        for name, work in turns:
            with contextlib.suppress(BrokenPipeError):  # the answer says why
                asking[name].send(work)
            turns[name, work].append(_answer(name, asking[name]))
    for connection in asking.values():
        connection.close()
    return [_record(name, work, turns, workdir, layer, recipe) for name, work in turns]


def _answer(name: str, connection: Connection) -> Any:
    try:
        answer = connection.recv()
    except EOFError as error:
        raise RunError(f"{name} ended without an answer") from error
    if isinstance(answer, Exception):
        raise RunError(f"{name}: {type(answer).__name__}: {answer}")
    return answer


def _serve(connection: Connection, name: str, workdir: Path, layer: str, recipe: Recipe) -> None:
    """Does works as they are asked for; answers with the seconds and the result."""
    try:
        works = analysis.CONTENDERS[name](workdir, layer, recipe)
        connection.send(list(works))
        while True:
            work = connection.recv()
            began = time.perf_counter()
            result = works[work]()
            connection.send((time.perf_counter() - began, result))
    except EOFError:
        return
    except Exception as error:
        connection.send(RuntimeError(str(error)))


def _record(
    name: str,
    work: str,
    turns: dict[tuple[str, str], list],
    workdir: Path,
    layer: str,
    recipe: Recipe,
) -> dict[str, Any]:
    (first, result), *rest = turns[name, work]
    seconds = [each for each, _ in rest]
    ratios = [ours / this for (ours, _), this in zip(turns[OURS, work][1:], seconds, strict=True)]
    expected = turns[OURS, work][0][1]
    difference = float(np.abs(result - expected).max() / np.abs(expected).max())
    return {
        "work": work,
        "contender": name,
        "run": workdir.name,
        "layer": layer if work == "grad_cam" else None,
        "steps": recipe.steps if work == "classes" else None,
        "images": len(result),
        **median_range("seconds", seconds),
        "first_seconds": first,
        **median_range("ours_over_this", ratios),
        "largest_difference": difference if work == "grad_cam" else None,
        "rounds": len(seconds),
    }


def _table(records: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("work", "contender"):
        table.add_column(name, no_wrap=True)
    for name in ("seconds", "least–most", "ours ÷ this", "first s", "differs by"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in records:
        difference = each["largest_difference"]
        table.add_row(
            f"{each['work']} ({each['images']})",
            each["contender"],
            f"{each['seconds']:.3f}",
            f"{each['seconds_min']:.3f}–{each['seconds_max']:.3f}",
            f"{each['ours_over_this']:.2f}",
            f"{each['first_seconds']:.1f}",
            "" if difference is None else f"{difference:.1e}",
        )
    return table


if __name__ == "__main__":
    command_line.run(main)
