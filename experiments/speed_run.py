"""Times whole trainings as records of speed do: compiled once, then run from new weights.

    python -m experiments.speed_run --config=airbench_cifar [--runs=20] [--config.FIELD=VALUE ...]

The clock of a run starts with its data on the device and its programs compiled, and stops when the
test accuracy is known. It covers drawing the first weights, what the network computes of training
images, the orders of the examples, all training steps with their augmentation, and the test with
its views; it does not cover importing, reading data, compiling, nor a first run that warms up. No
checkpoint is written and nothing evaluated on the way. So the CIFAR-10 records are timed that
`airbench_cifar` answers, but that drawing weights isn't counted there.

Run N has the seed `config.seed` + N. A JSON object a line on stdout: each run's, and at the end the
mean test accuracy with half its 95% interval (Student's t), and the seconds.
"""

import json
import sys
from collections.abc import Sequence

from absl import flags

from cnn_jax.training.provenance import facts
from cnn_jax.training.timed_run import TimedRun, summary
from experiments import command_line
from experiments.contenders.machine import machine

_CONFIG = command_line.define_config()
_RUNS = flags.DEFINE_integer("runs", 20, "that are timed, after one that is not", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    config = command_line.read_config(_CONFIG)
    train = TimedRun(config)
    print("compiling, and a first run that is not timed", file=sys.stderr)
    train.compile()
    train(config.seed)
    turns = []
    for seed in range(config.seed, config.seed + _RUNS.value):
        turns.append(train(seed))
        seconds, accuracy = turns[-1]
        print(json.dumps({"seed": seed, "seconds": seconds, "test_accuracy": accuracy}), flush=True)
        print(f"seed {seed}: {seconds:.2f} s, test accuracy {accuracy:.2%}", file=sys.stderr)
    told = summary(turns)
    print(json.dumps({"config": config.name} | told | facts(train.mesh) | machine()))
    half = told["test_accuracy_ci95"]
    sure = "" if half is None else f" ± {half:.2%}"
    print(
        f"{len(turns)} runs: {told['seconds']:.2f} s, mean test accuracy "
        f"{told['test_accuracy_mean']:.2%}{sure}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    command_line.run(main)
