"""Measures what input costs, beside its peers on the same files.

    python -m experiments.benchmark_data [--what=resident,decoding,augmentation,reading,memory]
        [--peers=torch,tf.data,keras] [--rounds=5] [--seconds=3] [--cores=1]

- resident: by how much a training step is longer that gathers its batch from a split on the device
  than one on a fixed batch, for each of --configs.
- decoding: shuffled batches of decoded JPEG and PNG files of --sizes, images per second and core:
  this project's streaming, PyTorch's DataLoader with Pillow, tf.data.
- augmentation: each change by itself on batches of --batch_size images of 32×32, and Keras's layer.
- reading: all of --dataset (a TFDS name, prepared) into memory: first, and again from the cache.
- memory: the peak of the host while --counts images are streamed, which should not grow with them.

A JSON object a line on stdout for each contender; a table for people on stderr. Contenders take
turns, each turn in a new process, held to --cores processors where it decodes; `rate` (images, of
resident steps, per second) is the median over the rounds, with its minimum and maximum, and
`ours_over_this` ours divided by the contender's. Peers need the extra `peers`.
"""

import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from rich import box
from rich.console import Console
from rich.table import Table

from cnn_jax.cpus import usable_cpus
from cnn_jax.errors import InputError, RunError
from experiments import command_line, configs
from experiments.contenders import OURS, files, require
from experiments.contenders.rounds import median_range
from experiments.inputs import augmentations, loaders
from experiments.inputs.turn import take

# The packages that they need.
PEERS = {"torch": ["torch"], "tf.data": ["tensorflow"], "keras": ["keras", "tensorflow"]}

_WHAT = flags.DEFINE_list("what", [], "what to measure; default: all")
_PEERS = flags.DEFINE_list("peers", [], f"contenders beside ours: {', '.join(PEERS)}")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "turns of each contender", lower_bound=1)
_SECONDS = command_line.define_number("seconds", 3.0, "length of a turn")
_CORES = flags.DEFINE_integer("cores", 1, "processors that decode", lower_bound=1)
_CONFIGS = flags.DEFINE_list("configs", ["mnist_convnet", "cifar_tutorial"], "of the steps")
_SIZES = flags.DEFINE_list("sizes", ["32", "160"], "sides of the images that are decoded")
_OPERATIONS = flags.DEFINE_list("operations", list(augmentations.OPERATIONS), "changes to measure")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "images a batch", lower_bound=1)
_DATASET = flags.DEFINE_string("dataset", "cifar10", "that is read into memory")
_COUNTS = flags.DEFINE_list("counts", ["1000", "4000", "16000"], "images that are streamed")
for _numbers in (_SIZES, _COUNTS):
    flags.register_validator(
        _numbers,
        lambda words: bool(words) and all(word.isdecimal() and int(word) for word in words),
        "they must be whole numbers above 0",
    )
flags.register_validator(
    _CORES, lambda cores: cores <= usable_cpus(), f"there are {usable_cpus()} processors"
)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    subjects = command_line.chosen("subject", _WHAT.value, SUBJECTS) or list(SUBJECTS)
    command_line.chosen("peer", _PEERS.value, PEERS)
    command_line.chosen("operation", _OPERATIONS.value, augmentations.OPERATIONS)
    command_line.chosen("config", _CONFIGS.value, configs.names())
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 120, highlight=False)
    failed = []
    for name in subjects:
        console.print(f"{name}: measuring …", markup=False)
        with tempfile.TemporaryDirectory(prefix="benchmark-data-") as scratch:
            records = []
            for record in SUBJECTS[name](Path(scratch), console):
                print(json.dumps({"subject": name} | record), flush=True)
                records.append(record)
        console.print(_table(name, records))
        if not records:
            failed.append(name)
    if failed:
        raise RunError(f"could not be measured: {', '.join(failed)}")


def _resident(scratch: Path, console: Console) -> Iterator[dict[str, Any]]:
    for config in _CONFIGS.value:
        task = {"config": config, "turns": _ROUNDS.value}
        yield from _compare("resident", [OURS], config, console, rounds=1, **task)


def _decoding(scratch: Path, console: Console) -> Iterator[dict[str, Any]]:
    names = [OURS, *(peer for peer in _PEERS.value if peer in loaders.CONTENDERS)]
    cores = _CORES.value
    for size, extension in itertools.product(map(int, _SIZES.value), ("jpg", "png")):
        count = 4000 if size <= 64 else 1000
        folder = scratch / f"{size}-{extension}"
        files.write_folder(folder, count=count, size=(size, size), extension=extension)
        task = {"folder": str(folder), "batch_size": _BATCH_SIZE.value}
        ways = {"": 0} if cores == 1 else {", threads": 0, ", processes": cores}
        for way, workers in ways.items():
            what = f"{size}×{size} {extension}{way}"
            options = {"cores": cores, "cache": scratch / "cache", "workers": workers}
            records = _compare("loaders", names, what, console, threads=cores, **task, **options)
            yield from (
                each | {"cores": cores, "per_core": each["rate"] / cores} for each in records
            )


def _augmentation(scratch: Path, console: Console) -> Iterator[dict[str, Any]]:
    for name in _OPERATIONS.value:
        peers = ["keras"] if "keras" in _PEERS.value and augmentations.OPERATIONS[name][1] else []
        task = {"operation": name, "size": 32, "batch_size": _BATCH_SIZE.value}
        yield from _compare("augmentations", [OURS, *peers], name, console, **task)


def _reading(scratch: Path, console: Console) -> Iterator[dict[str, Any]]:
    caches = [scratch / str(number) for number in range(_ROUNDS.value)]  # empty the first time
    for time in ("first", "again"):
        what = f"{_DATASET.value}, {time}"
        task = {"name": _DATASET.value, "cache_of_round": caches}
        yield from _compare("reading", [OURS], what, console, **task)


def _memory(scratch: Path, console: Console) -> Iterator[dict[str, Any]]:
    for count in map(int, _COUNTS.value):
        folder = scratch / str(count)
        files.write_folder(folder, count=count, size=(160, 160), extension="jpg")
        task = {"folder": str(folder), "batch_size": _BATCH_SIZE.value, "workers": 0, "threads": 1}
        what, cache = f"{count:,} images of 160×160", scratch / "cache"
        yield from _compare("loaders", [OURS], what, console, cache=cache, rounds=1, **task)


SUBJECTS: dict[str, Callable[[Path, Console], Iterator[dict[str, Any]]]] = {
    "resident": _resident,
    "decoding": _decoding,
    "augmentation": _augmentation,
    "reading": _reading,
    "memory": _memory,
}


def _compare(
    subject: str,
    names: Sequence[str],
    what: str,
    console: Console,
    *,
    rounds: int = 0,
    cache_of_round: Sequence[Path] | None = None,
    **task: Any,
) -> list[dict[str, Any]]:
    """Returns a record for each contender that could be measured, ours first."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(rounds or _ROUNDS.value):
        if cache_of_round:
            task["cache"] = cache_of_round[number]
        for name in list(answers):
            try:
                require(PEERS.get(name, ()))
                answer = take(subject, contender=name, seconds=_SECONDS.value, **task)
                answers[name].append(answer)
            except (InputError, RunError) as error:
                console.print(f"{what}: {name}: {error}", markup=False)
                del answers[name]
    ours = [answer["rate"] for answer in answers.get(OURS, [])]
    return [_record(what, name, found, ours) for name, found in answers.items()]


def _record(
    what: str, name: str, answers: list[dict[str, Any]], ours: list[float]
) -> dict[str, Any]:
    rates = [answer["rate"] for answer in answers]
    ratios = [mine / theirs for mine, theirs in zip(ours, rates, strict=False)]
    return answers[-1] | {
        "what": what,
        "contender": name,
        **median_range("rate", rates),
        **median_range("ours_over_this", ratios),
        "rounds": len(rates),
        "peak_memory_bytes": max(answer["peak_memory_bytes"] for answer in answers),
    }


def _table(title: str, records: list[dict[str, Any]]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("what", "contender"):
        table.add_column(name, no_wrap=True)
    for name in ("a second", "least–most", "ours ÷ this", "overhead", "peak MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for record in records:
        ratio, overhead = record["ours_over_this"], record.get("overhead")
        table.add_row(
            record["what"],
            record["contender"],
            f"{record['rate']:,.1f}",
            f"{record['rate_min']:,.1f}–{record['rate_max']:,.1f}",
            "" if ratio is None else f"{ratio:.2f}",
            "" if overhead is None else f"{overhead:+.1%}",
            f"{record['peak_memory_bytes'] / 2**20:,.0f}",
        )
    return table


if __name__ == "__main__":
    command_line.run(main)
