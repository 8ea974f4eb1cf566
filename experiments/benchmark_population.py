"""Measures how much faster a population trains than its runs one after the other.

    python -m experiments.benchmark_population --config=NAME [--members=16] [--steps=200]
        [--strategies=each,vmap,map,vmap-devices] [--rounds=3] [--config.FIELD=VALUE ...]

Every way is `experiments.train` itself, in a process of its own, on the config's own data; they
take turns. A JSON object a line on stdout for each way, a single run first:

- `images_per_second`: while training, of all members together; the median over the rounds.
- `speedup`: that rate divided by the single run's, which runs one after the other have, too.
- `first_seconds`, `seconds`: the whole command, the first time with nothing compiled before, and
  later, with the compiled programs kept.
- `whole_speedup`: what as many single commands take, the first and then the others, divided by what
  the population's takes, the first time.

`vmap-devices` spreads the members over as many virtual devices as a CPU has cores.
"""

import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cnn_jax.config import Config, Population, is_population, to_json, with_fields
from cnn_jax.config_checks import validate
from cnn_jax.cpus import usable_cpus
from cnn_jax.errors import InputError
from experiments import command_line
from experiments.contenders.commands import timed
from experiments.contenders.rounds import median_range

SINGLE, STRATEGIES = "single", ("each", "vmap", "map", "vmap-devices")

_CONFIG = command_line.define_config()
_MEMBERS = flags.DEFINE_integer("members", 16, "how many", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 200, "of each run", lower_bound=1)
_STRATEGIES = flags.DEFINE_list("strategies", list(STRATEGIES), "what to measure")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "turns of each", lower_bound=2)


@dataclasses.dataclass
class Way:
    """One way to train, and what its turns took."""

    name: str
    config: Config
    devices: int = 1
    rates: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    config = command_line.read_config(_CONFIG)
    config.train.steps, config.train.epochs = _STEPS.value, None
    if is_population(config):
        raise InputError("--members says how many there are; leave --config.population out")
    validate(config)
    ways = [Way(SINGLE, config)]
    for name in command_line.chosen("strategy", _STRATEGIES.value, STRATEGIES):
        strategy, _, spread = name.partition("-")
        population = Population(seeds=_MEMBERS.value, strategy=strategy)
        devices = usable_cpus() if spread else 1
        ways.append(Way(name, with_fields(config, {"population": population}), devices))
    with tempfile.TemporaryDirectory() as directory:
        for turn in range(_ROUNDS.value):
            for way in ways:
                print(f"round {turn + 1}: {way.name} …", file=sys.stderr)
                _train(way, Path(directory) / way.name, turn)
    for way in ways:
        print(json.dumps(_record(way, ways[0])), flush=True)


def _train(way: Way, directory: Path, turn: int) -> None:
    """Runs the command once; its compiled programs stay for the next turn."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(to_json(way.config))
    workdir = directory / str(turn)
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(directory / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    if way.devices > 1:
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={way.devices}"
    given = [f"--workdir={workdir}", f"--config={directory / 'config.json'}"]
    seconds, _ = timed(["experiments.train", *given], **environment)
    way.seconds.append(seconds)
    way.rates.append(json.loads((workdir / "result.json").read_text())["images_per_second"])


def _record(way: Way, single: Way) -> dict[str, Any]:
    first, *later = single.seconds
    members = 1 if way is single else _MEMBERS.value
    alone = first + (members - 1) * statistics.median(later)
    speedups = [these / one for these, one in zip(way.rates, single.rates, strict=True)]
    return {
        "config": way.config.name,
        "way": way.name,
        "members": members,
        "steps": _STEPS.value,
        "batch_size": way.config.data.batch_size,
        "rounds": len(way.rates),
        **median_range("images_per_second", way.rates),
        **median_range("speedup", speedups),
        "first_seconds": way.seconds[0],
        **median_range("seconds", way.seconds[1:]),
        "whole_speedup": alone / way.seconds[0],
    }


if __name__ == "__main__":
    command_line.run(main)
