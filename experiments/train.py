"""Trains a network, evaluates it on the test split and leaves a run directory.

    python -m experiments.train --config=lenet_digits [--workdir=DIR] [--config.FIELD=VALUE ...]

Run again with the same --workdir it resumes; a finished run says so. Without --workdir every start
gets a new directory under runs/.
"""

import time

_START = time.perf_counter()  # before the slow imports: the result says what they cost

import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

from absl import flags  # noqa: E402

from cnn_jax.config import is_population  # noqa: E402
from cnn_jax.training.clock import Clock  # noqa: E402
from cnn_jax.training.interruption import Stopped  # noqa: E402
from cnn_jax.training.loop import train_and_evaluate  # noqa: E402
from cnn_jax.training.population import train_population  # noqa: E402
from experiments import command_line  # noqa: E402

_CONFIG = command_line.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "run directory; default: a new one under runs/")


def main(argv: Sequence[str]) -> int | None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    config = command_line.read_config(_CONFIG)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    workdir = Path(_WORKDIR.value or f"runs/{config.name}/{stamp}")
    try:
        train = train_population if is_population(config) else train_and_evaluate
        train(config, workdir, clock=Clock("import", _START))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return command_line.STOPPED
    return None


if __name__ == "__main__":
    command_line.run(main)
