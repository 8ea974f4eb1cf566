"""Downloads a TFDS dataset and prepares it, once, for every later run.

    python -m experiments.prepare --dataset=cifar10 [--data_dir=DIR]

Without --data_dir it goes to TFDS_DATA_DIR, else to ~/tensorflow_datasets. Most image datasets need
no TensorFlow for it; for those that do, install the extra called prepare.
"""

import signal
from collections.abc import Sequence

from absl import flags

from cnn_jax.data.datasets import SOURCES
from cnn_jax.data.sources import digits
from cnn_jax.data.sources.prepare import prepare, writing
from cnn_jax.data.sources.quiet import say, silence
from cnn_jax.data.sources.tfds_builder import is_prepared, open_builder, resolve_data_dir
from cnn_jax.errors import InputError
from experiments import command_line

_DATASET = flags.DEFINE_string("dataset", None, "a TFDS name: cifar10, emnist/letters, digits")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "default: TFDS_DATA_DIR, ~/tensorflow_datasets")


def main(argv: Sequence[str]) -> int | None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    if not _DATASET.value:
        raise InputError("--dataset=NAME is missing; cifar10, mnist and digits are names")
    if _DATASET.value in SOURCES:
        raise InputError(
            f"{_DATASET.value} needs no preparing: a run makes it or reads it where it lies"
        )
    data_dir = resolve_data_dir(_DATA_DIR.value)
    builder = open_builder(_DATASET.value, data_dir)
    if is_prepared(builder):
        say(f"{_DATASET.value} is already prepared in {builder.data_dir}")
        return None
    # As an interruption from the keyboard, so that what is half-made is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if builder.name == "digits":
            with silence(), writing(builder.name, data_dir):
                digits.prepare(data_dir)
        else:
            prepare(builder)
    except KeyboardInterrupt:
        say(f"stopped; nothing half-made is left of {_DATASET.value}; run it again to prepare it")
        return command_line.STOPPED
    say(f"{_DATASET.value} is prepared in {builder.data_dir}")
    return None


if __name__ == "__main__":
    command_line.run(main)
