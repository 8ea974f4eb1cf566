"""Classifies image files with a run's network; the data it was trained on is not needed.

    python -m experiments.predict --workdir=DIR IMAGE... [--top=5] [--format=table]
        [--checkpoint=best] [--batch_size=64]

An IMAGE is a file, a folder (all images below it) or "-": paths from stdin, one a line, answered
as they come. Images are decoded and normalised as in training; one of another size than the run's
is scaled at its shorter side and cropped at the centre; colours become gray where the run's are.

Prints a JSON object a line, in the order of the images: `image`, its path, and `top`, the most
probable classes, each with `class`, `index` and `probability`. A file that can't be read is told
on stderr, the others are done, and the exit code is 2. Images per second count from the first path
to the last answer, after compilation.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from absl import flags
from jaxtyping import Float
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cnn_jax.analysis.calibration import probabilities
from cnn_jax.data.decoding import Decoded, decoded_batches, find_images
from cnn_jax.data.sources.image_file import shown, strict_pillow
from cnn_jax.data.sources.quiet import say
from cnn_jax.errors import InputError
from cnn_jax.training.predictor import check_decodable, compile_logits, load_predictor
from cnn_jax.whole_files import strict
from experiments import command_line

flags.FLAGS.set_gnu_getopt()  # flags may follow images

_WORKDIR = command_line.define_workdir()
_TOP = flags.DEFINE_integer("top", 5, "how many classes of each image", lower_bound=1)
_FORMAT = flags.DEFINE_enum("format", "json", ["json", "table"], "JSON lines, or one table")
_CHECKPOINT = command_line.define_checkpoint()
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "images at once on the device", lower_bound=1)

Answer = dict[str, Any]


def main(argv: Sequence[str]) -> int | None:
    """Runs the command."""
    workdir = command_line.read_workdir(_WORKDIR)
    if not argv[1:]:
        raise InputError("no IMAGE is given: files, folders, or - for paths from stdin")
    predictor = load_predictor(workdir, which=_CHECKPOINT.value)
    check_decodable(predictor.spec)
    logits = compile_logits(predictor, _BATCH_SIZE.value)
    began = time.perf_counter()
    with strict_pillow():
        paths = find_images(argv[1:])
        batches = decoded_batches(paths, predictor.decode, size=_BATCH_SIZE.value)
        chances = partial(probabilities, sigmoids=predictor.sigmoids)
        answers = _answers(batches, lambda x: chances(logits(x)), predictor.spec.class_names)
        done, bad = _report(answers)
    seconds = time.perf_counter() - began
    unread = f"; {bad:,} that can't be read" if bad else ""
    say(f"{done:,} images in {seconds:.3f} s: {done / seconds:,.1f} images/s{unread}")
    return command_line.WRONG_INPUT if bad else None


def _answers(
    batches: Iterable[list[Decoded]], classify: Callable, class_names: Sequence[str]
) -> Iterator[Answer | Decoded]:
    """Yields an answer for every image, and every file without one as it came."""
    for batch in batches:
        pixels = [each.pixels for each in batch if each.pixels is not None]
        found = iter(classify(np.stack(pixels))) if pixels else iter([])
        for each in batch:
            if each.pixels is None:
                yield each
            else:
                top = top_classes(next(found), class_names, _TOP.value)
                yield {"image": str(each.path), "top": top}


def top_classes(
    probabilities: Float[np.ndarray, " classes"], class_names: Sequence[str], count: int
) -> list[Answer]:
    """Returns the most probable classes, of equals the first, at most `count`."""
    order = np.argsort(-probabilities, kind="stable")[:count].tolist()
    return [
        {"class": class_names[i], "index": i, "probability": float(probabilities[i])} for i in order
    ]


def _report(answers: Iterable[Answer | Decoded]) -> tuple[int, int]:
    """Prints answers, on stderr what is wrong with files; returns how many there were of each."""
    done = bad = 0
    table = _table() if _FORMAT.value == "table" else None
    for each in answers:
        if isinstance(each, Decoded):
            bad += 1
            say(f"error: {shown(each.path)} {each.problem}")
            continue
        done += 1
        if table is None:
            print(json.dumps(strict(each)), flush=True)
        else:
            table.add_row(*map(Text, _cells(each)))
    if table is not None:
        width = None if sys.stdout.isatty() else 200
        Console(width=width, highlight=False).print(table)
    return done, bad


def _table() -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("image", "class", "probability", "then"):
        table.add_column(name, justify="right" if name == "probability" else "left")
    return table


def _cells(answer: Answer) -> list[str]:
    first, *others = answer["top"]
    then = ", ".join(f"{each['class']} {each['probability']:.1%}" for each in others)
    return [shown(answer["image"]), first["class"], f"{first['probability']:.1%}", then]


if __name__ == "__main__":
    command_line.run(main)
