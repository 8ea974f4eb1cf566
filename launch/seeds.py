"""Trains one config with several seeds, one after the other, and states the mean and its spread.

    python -m launch.seeds --config=NAME --seeds=5 --workdir=DIR [--config.FIELD=VALUE ...]

Seeds are counted from --config.seed on, and the run of seed i lies in DIR/seed_i; finished ones are
not run again, unfinished ones go on. Ends with one JSON object: `test_accuracy` as mean, standard
deviation (n - 1) and 95% confidence interval of the mean.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cnn_jax.spread import spread
from launch import command_line
from launch.training import Training, check, check_seeds, is_population, read_result

_SEEDS = flags.DEFINE_integer("seeds", 5, "how many, from --config.seed on", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", None, "where the run directories go")
_STATED = ("config", "test_accuracy", "seconds")  # of each run


def train(arguments: Sequence[str], seed: int, workdir: Path) -> dict:
    """Runs one training command and returns its `result.json`; exits as the command does."""
    training = Training([*arguments, f"--config.seed={seed}"], workdir)
    try:
        code = training.wait()
    except KeyboardInterrupt:  # Ctrl-C: the command has it too, saves and ends
        code = training.wait() or command_line.STOPPED
    if code:
        sys.exit(code)
    result = read_result(workdir)
    if missing := [name for name in _STATED if name not in result]:
        raise command_line.LaunchError(
            f"{workdir / 'result.json'} is damaged (it has no {missing[0]}); delete it and start "
            "again: the run goes on from its last checkpoint"
        )
    return result


def main(argv: Sequence[str]) -> None:
    """Runs the command; --config and its fields go to every training run."""
    if _WORKDIR.value is None:
        raise command_line.LaunchError("--workdir=DIR is missing: where the run directories go")
    workdir, config = Path(_WORKDIR.value), check(argv[1:])
    if is_population(config):
        raise command_line.LaunchError("the config is a population, whose seeds are its own")
    check_seeds(config, _SEEDS.value)
    seeds = range(config["seed"], config["seed"] + _SEEDS.value)
    results = [train(argv[1:], seed, workdir / f"seed_{seed}") for seed in seeds]
    summary = {
        "config": results[0]["config"],
        "test_accuracy": spread([result["test_accuracy"] for result in results]),
        "test_accuracies": [result["test_accuracy"] for result in results],
        "seconds": spread([sum(result["seconds"].values()) for result in results]),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    command_line.run(main)
