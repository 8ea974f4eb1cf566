"""Writes a run's network for use elsewhere, and checks what it wrote against the run's own logits.

    python -m experiments.export --workdir=DIR --format=stablehlo [--out=FILE] [--checkpoint=best]

`stablehlo` is a whole program for CPU, GPU and TPU: raw uint8 images of any number → logits, with
normalisation and weights inside. It runs wherever jax is, without this project:

    import jax
    network = jax.export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
    logits = network.call(images)  # uint8, (b, height, width, channels)

`safetensors` are the weights by names like conv1/kernel, and the constants of the normalisation.
Beside either lies FILE.json: image shape, class names, the config. Without --out the file is
DIR/export/model.FORMAT. Prints one JSON object.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cnn_jax.errors import InputError
from cnn_jax.training.export import export_safetensors, export_stablehlo
from cnn_jax.training.predictor import load_predictor
from experiments import command_line

_FORMATS = {"stablehlo": export_stablehlo, "safetensors": export_safetensors}

_WORKDIR = command_line.define_workdir()
_FORMAT = flags.DEFINE_enum("format", None, [*_FORMATS], "a program, or weights")
_OUT = flags.DEFINE_string("out", None, "the file; default: DIR/export/model.FORMAT")
_CHECKPOINT = command_line.define_checkpoint()


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    workdir = command_line.read_workdir(_WORKDIR)
    if _FORMAT.value is None:
        raise InputError(f"--format is missing: {' or '.join(_FORMATS)}")
    out = Path(_OUT.value or workdir / "export" / f"model.{_FORMAT.value}")
    predictor = load_predictor(workdir, which=_CHECKPOINT.value)
    difference = _FORMATS[_FORMAT.value](predictor, out)
    facts = {
        "workdir": str(workdir),
        "step": predictor.step,
        "format": _FORMAT.value,
        "path": str(out),
        "bytes": out.stat().st_size,
        "largest_difference": difference,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    command_line.run(main)
