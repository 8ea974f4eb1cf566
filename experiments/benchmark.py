"""Measures how many images per second a network trains on and classifies, beside its peers.

    python -m experiments.benchmark --config=NAME[,NAME...] [--peers=torch,keras-tensorflow,...]
        [--mode=train,inference,streaming] [--rounds=5] [--seconds=2] [--batch_size=N]
        [--dtype=bfloat16]

A JSON object a line on stdout for each config, mode and contender; a table for people on stderr.
No data is needed: the images are made up, of the shape that the config's dataset has. Of several
configs each is taken as it is; a single one takes fields too, --config.model.width=0.5.

Ours is the step of `experiments.train` with its feed, on one device, but for what the peers have no
common form of: all contenders train with softmax cross-entropy and SGD with momentum 0.9, without
augmentation. Peers are built from the same list of operations: torch and torch-compile, Keras's
`fit` and `predict` on TensorFlow or JAX, and stock Flax layers with optax. They need their
packages, which the extra `peers` brings.

With --mode=streaming training is fed by JPEG files, 4:3 and of 5/3 the network's height, which each
contender reads, decodes, scales and crops while it computes: ours by the config's streaming feed
(--config.data.workers=8), PyTorch by Pillow in a DataLoader with a worker for each CPU, Keras by
tf.data. Every turn opens its pipeline anew, and its first steps don't count.

`images_per_second` is the median over the rounds, with its minimum and maximum; `ours_over_this` is
ours divided by the contender's, round by round, so that above 1 ours is faster. FLOPs are the
summary's (a multiply-add is two), three forward passes for a training step; `utilization` is the
share of what a large product of square matrices reached in the same rounds. `compile_seconds` is
the time from data in place to the end of the first step, `peak_memory_bytes` the device's, or the
whole process's where the device has no memory of its own.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags
from rich import box
from rich.console import Console
from rich.table import Table

from cnn_jax.config import DTYPES, Config, is_population
from cnn_jax.config_checks import validate
from cnn_jax.cpus import usable_cpus
from cnn_jax.errors import InputError, RunError
from experiments import command_line, configs
from experiments.contenders import OURS, PEERS
from experiments.contenders.machine import machine
from experiments.contenders.rounds import compare
from experiments.contenders.task import MODES, benchmark_config, streamed_config


def _load(names: str) -> Config:
    """Returns the config of a name, or for a list an empty config that has the list as its name."""
    loaded = [configs.load(name) for name in names.split(",")]
    return loaded[0] if len(loaded) == 1 else Config(name=names)


_CONFIG = config_flags.DEFINE_config_dataclass(
    "config",
    Config(),
    "configs by name, separated by commas; fields of a single one: --config.model.width=0.5",
    parse_fn=_load,
)
_PEERS = flags.DEFINE_list("peers", [], f"contenders beside ours: {', '.join(PEERS)}")
_MODES = flags.DEFINE_list("mode", list(MODES[:2]), f"what to measure, of {', '.join(MODES)}")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "turns of each contender", lower_bound=1)
_SECONDS = command_line.define_number("seconds", 2.0, "length of a turn, at least a step")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "instead of the config's", lower_bound=1)
_DTYPE = flags.DEFINE_enum("dtype", None, DTYPES, "of the computation, instead of the config's")
_TIMEOUT = command_line.define_number("timeout", 900.0, "a contender may take, seconds", least=1.0)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    jax.config.update("jax_platforms", "cpu")  # here; the devices are the contenders'
    peers = command_line.chosen("peer", _PEERS.value, PEERS)
    modes = command_line.chosen("mode", _MODES.value, MODES)
    if not modes:
        raise InputError(f"--mode is empty; it can be {', '.join(MODES)}")
    chosen = [_prepare(config) for config in read_configs()]
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 160, highlight=False)
    _warn_if_busy(console)
    failed = []
    for config in chosen:
        for mode in modes:
            title = f"{config.name or config.model.name}, {mode}"
            console.print(f"{title}: measuring {', '.join([OURS, *peers])} …", markup=False)
            with _inputs(config, mode) as ready:
                records = compare(
                    ready,
                    mode,
                    peers,
                    rounds=_ROUNDS.value,
                    seconds=_SECONDS.value,
                    timeout=_TIMEOUT.value,
                    say=lambda text: console.print(text, markup=False),
                )
            for record in records:
                print(json.dumps(record | machine()), flush=True)
            if records:
                console.print(_table(records, title))
            if not any(record["contender"] == OURS for record in records):
                failed.append(title)
    if failed:
        raise RunError(f"{OURS} could not be measured: {'; '.join(failed)}")


def read_configs() -> list[Config]:
    """Returns the configs of the command line.

    Raises:
      InputError: there are none, or fields are set for several.
    """
    config = command_line.read_config(_CONFIG)
    names = config.name.split(",")
    if len(names) == 1:
        return [config]
    fields = [token for token in sys.argv if token.startswith("--config.")]
    if fields:
        raise InputError(f"{fields[0]}: fields can be set for a single config, not for {names}")
    return [configs.load(name) for name in names]


def _prepare(config: Config) -> Config:
    validate(config)
    if is_population(config):
        raise InputError("the config is a population; see experiments.benchmark_population")
    return benchmark_config(config, batch_size=_BATCH_SIZE.value, dtype=_DTYPE.value)


@contextmanager
def _inputs(config: Config, mode: str) -> Iterator[Config]:
    """Yields the config with its image files written, if the mode takes any."""
    if mode != "streaming":
        yield config
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        yield streamed_config(config, Path(folder))


def _warn_if_busy(console: Console) -> None:
    load, cpus = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, usable_cpus()
    if load > cpus / 2:
        console.print(f"warning: the machine is busy, its load is {load:.1f} on {cpus} CPUs")


def _table(records: list[dict[str, Any]], title: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("contender", no_wrap=True)
    for name in ("images/s", "least–most", "ours ÷ this", "GFLOP/s", "of ceiling", "first step s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("peak MiB", justify="right", no_wrap=True)
    for record in records:
        table.add_row(*_cells(record))
    first = records[0]
    ceiling = first["ceiling_gflops_per_second"]
    table.caption = (
        f"batch {first['batch_size']}, {first['dtype']}, {first['device_kind']}, "
        f"{first['threads']} threads; ceiling "
        + ("unknown" if ceiling is None else f"{ceiling:,.0f} GFLOP/s")
    )
    return table


def _cells(record: dict[str, Any]) -> list[str]:
    low, high = record["images_per_second_min"], record["images_per_second_max"]
    ratio, share = record["ours_over_this"], record["utilization"]
    memory = record["peak_memory_bytes"]
    return [
        record["contender"],
        f"{record['images_per_second']:,.1f}",
        f"{low:,.1f}–{high:,.1f}",
        "" if ratio is None else f"{ratio:.2f}",
        f"{record['gflops_per_second']:,.1f}",
        "" if share is None else f"{share:.0%}",
        f"{record['compile_seconds']:.1f}",
        "" if memory is None else f"{memory / 2**20:,.0f}",
    ]


if __name__ == "__main__":
    command_line.run(main)
