"""Trains one config with several seeds, one after the other, and states the mean and its spread.

    python -m launch.seeds --config=NAME --seeds=5 --workdir=DIR [--config.FIELD=VALUE ...]

Run i lies in DIR/seed_i; finished ones are not run again, unfinished ones go on. Ends with one JSON
object: `test_accuracy` as mean, standard deviation (n - 1) and 95% confidence interval of the mean.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from scipy import stats

_SEEDS = flags.DEFINE_integer("seeds", 5, "how many seeds: 0, 1, ...", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", None, "where the run directories go")


def train(arguments: Sequence[str], seed: int, workdir: Path) -> dict:
    """Runs one training command and returns its `result.json`; exits as the command does."""
    command = [sys.executable, "-m", "experiments.train", *arguments]
    command += [f"--config.seed={seed}", f"--workdir={workdir}"]
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)
    return json.loads((workdir / "result.json").read_text())


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Returns n, mean, standard deviation and half the 95% confidence interval (Student's t).

    >>> spread([0.5])
    {'n': 1, 'mean': 0.5, 'std': None, 'ci95': None}
    """
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return {"n": n, "mean": mean, "std": None, "ci95": None}
    std = statistics.stdev(values)
    half = float(stats.t.ppf(0.975, n - 1)) * std / n**0.5
    return {"n": n, "mean": mean, "std": std, "ci95": half}


def main(argv: Sequence[str]) -> None:
    """Runs the command; what is no flag of its own goes to every training run."""
    if _WORKDIR.value is None:
        print("error: --workdir=DIR is missing: where the run directories go", file=sys.stderr)
        sys.exit(2)
    workdir = Path(_WORKDIR.value)
    results = [train(argv[1:], seed, workdir / f"seed_{seed}") for seed in range(_SEEDS.value)]
    summary = {
        "config": results[0]["config"],
        "test_accuracy": spread([result["test_accuracy"] for result in results]),
        "test_accuracies": [result["test_accuracy"] for result in results],
        "seconds": spread([sum(result["seconds"].values()) for result in results]),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: flags.FLAGS(argv, known_only=True))
