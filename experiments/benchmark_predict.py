"""Measures how fast image files are classified, beside PyTorch with the same network and weights.

    python -m experiments.benchmark_predict --workdir=DIR [--rounds=5] [--batch_size=64] IMAGE...

Whole commands take turns, each a process of its own: `experiments.predict` and
`experiments.contenders.torch_predict`. A JSON object a line on stdout for each. `images_per_second`
is what the command itself says, from the first path to the last answer, without the start and
compilation; `process_seconds` is the whole. `same_top` is the share of images to which both give
the same class. The image files should be more than a thousand, and read before, so that neither
side finds them in colder memory; a run of ours before the first round sees to that.
"""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags

from cnn_jax.cpus import usable_cpus
from cnn_jax.errors import InputError, RunError
from experiments import command_line
from experiments.contenders import OURS, PEERS, require
from experiments.contenders.commands import timed
from experiments.contenders.machine import machine
from experiments.contenders.rounds import median_range

flags.FLAGS.set_gnu_getopt()

_WORKDIR = command_line.define_workdir()
_ROUNDS = flags.DEFINE_integer("rounds", 5, "turns of each contender", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "images at once", lower_bound=1)

_COMMANDS = {OURS: "experiments.predict", "torch": "experiments.contenders.torch_predict"}


class Turn(NamedTuple):
    """What one process did."""

    rate: float  # images per second
    seconds: float  # of the whole process
    classes: dict[str, str]  # of each image, the most probable


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.read_workdir(_WORKDIR)
    if not argv[1:]:
        raise InputError("no IMAGE is given: files or folders")
    require(PEERS["torch"].packages)
    _take_turn(OURS, argv[1:])
    turns: dict[str, list[Turn]] = {name: [] for name in _COMMANDS}
    for i in range(_ROUNDS.value):
        for name, taken in turns.items():
            taken.append(_take_turn(name, argv[1:]))
            print(f"round {i + 1}, {name}: {taken[-1].rate:,.1f} images/s", file=sys.stderr)
    for name in turns:
        print(json.dumps(_record(name, turns) | machine()), flush=True)


def _take_turn(name: str, images: Sequence[str]) -> Turn:
    flags_given = [f"--workdir={_WORKDIR.value}", f"--batch_size={_BATCH_SIZE.value}"]
    seconds, done = timed([_COMMANDS[name], *flags_given, *images])
    said = re.search(r"([\d,]+) images in ([\d.]+) s", done.stderr)
    if said is None:
        raise RunError(f"{name} does not say how fast it was: {done.stderr.strip()[-200:]}")
    answers = map(json.loads, done.stdout.splitlines())
    classes = {each["image"]: each["top"][0]["class"] for each in answers}
    return Turn(int(said[1].replace(",", "")) / float(said[2]), seconds, classes)


def _record(name: str, turns: dict[str, list[Turn]]) -> dict[str, Any]:
    ours, these = turns[OURS], turns[name]
    mine, theirs = ours[-1].classes, these[-1].classes
    ratios = [a.rate / b.rate for a, b in zip(ours, these, strict=True)]
    return {
        "workdir": _WORKDIR.value,
        "contender": name,
        "images": len(theirs),
        "batch_size": _BATCH_SIZE.value,
        **median_range("images_per_second", [turn.rate for turn in these]),
        **median_range("ours_over_this", ratios),
        **median_range("process_seconds", [turn.seconds for turn in these]),
        "same_top": sum(mine[image] == theirs[image] for image in mine) / max(1, len(mine)),
        "rounds": len(these),
        "cpus": usable_cpus(),
    }


if __name__ == "__main__":
    command_line.run(main)
