"""Measures whole runs, from the command's start to its end, beside Keras with the published recipe.

    python -m experiments.benchmark_accuracy [--config=mnist_convnet_quick] [--rounds=3]
        [--network=mnist_convnet] [--epochs=5] [--peer=keras-tensorflow]

`experiments.train --config=CONFIG` and `experiments.contenders.keras_published` take turns on
MNIST, each a process of its own: importing, compiling, training and testing all count. Nothing
compiled is kept from one round of ours to the next; MNIST itself has been read before, by both.
Round N trains with seed N - 1. A JSON object a line on stdout for each, with `seconds` and
`test_accuracy`, the medians over the rounds with the least and the most.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from cnn_jax.config import Config
from cnn_jax.data.datasets import load_dataset
from cnn_jax.errors import InputError
from experiments import command_line, configs
from experiments.contenders import OURS, PEERS, require
from experiments.contenders.commands import timed
from experiments.contenders.machine import machine
from experiments.contenders.whole_runs import Turn, record

_CONFIG = flags.DEFINE_string("config", "mnist_convnet_quick", "what of ours is run, by name")
_NETWORK = flags.DEFINE_enum(
    "network", "mnist_convnet", ["mnist_convnet", "lenot_mnist"], "Keras's"
)
_EPOCHS = flags.DEFINE_integer("epochs", 5, "of Keras", lower_bound=1)
_PEER = flags.DEFINE_string("peer", "keras-tensorflow", "or keras-jax")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "turns of each contender", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    peer = _checked_peer(_PEER.value)
    turns: dict[str, list[Turn]] = {OURS: [], peer: []}
    with tempfile.TemporaryDirectory(prefix="benchmark-accuracy-") as scratch:
        data = Path(scratch) / "mnist.npz"
        _save_data(configs.load(_CONFIG.value), data)
        for seed in range(_ROUNDS.value):
            turns[OURS].append(_train_ours(Path(scratch) / f"{seed}", seed))
            turns[peer].append(_train_peer(peer, data, seed))
            for name, taken in turns.items():
                seconds, accuracy = taken[-1]
                said = f"round {seed + 1}, {name}: {seconds:.1f} s, test accuracy {accuracy:.2%}"
                print(said, file=sys.stderr)
    run = {OURS: _CONFIG.value, peer: f"{_NETWORK.value}, {_EPOCHS.value} epochs"}
    for name in turns:
        print(json.dumps({"run": run[name]} | record(name, turns) | machine()), flush=True)


def _checked_peer(name: str) -> str:
    command_line.chosen("peer", [name], [each for each in PEERS if each.startswith("keras-")])
    require(PEERS[name].packages)
    return name


def _save_data(config: Config, file: Path) -> None:
    dataset = load_dataset(config.data)
    if (shape := dataset.spec.image_shape) != (28, 28, 1) or dataset.spec.num_classes != 10:
        raise InputError(
            f"--config={config.name} is of images of {'×'.join(map(str, shape))}; Keras's networks "
            "here take MNIST's, 28×28×1 in 10 classes"
        )
    splits = {"train": dataset.train, "test": dataset.test}
    images = {f"x_{name}": np.asarray(split.images) for name, split in splits.items()}
    np.savez(file, **images, **{f"y_{name}": split.labels for name, split in splits.items()})


def _train_ours(workdir: Path, seed: int) -> Turn:
    command = ["experiments.train", f"--config={_CONFIG.value}", f"--workdir={workdir}"]
    compiled = f"{workdir}-compiled"  # an empty directory of its own
    seconds, _ = timed([*command, f"--config.seed={seed}"], JAX_COMPILATION_CACHE_DIR=compiled)
    result = json.loads((workdir / "result.json").read_text())
    return Turn(seconds, result["test_accuracy"])


def _train_peer(peer: str, data: Path, seed: int) -> Turn:
    command = [f"{__package__}.contenders.keras_published", f"--data={data}", f"--seed={seed}"]
    options = [f"--network={_NETWORK.value}", f"--epochs={_EPOCHS.value}"]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    seconds, done = timed([*command, *options], **quiet, **dict(PEERS[peer].environment))
    return Turn(seconds, json.loads(done.stdout.splitlines()[-1])["test_accuracy"])


if __name__ == "__main__":
    command_line.run(main)
