"""Prints a network layer by layer, without data and without allocating its weights.

    python -m experiments.summary --config=NAME [--format=json] [--config.FIELD=VALUE ...]

FLOPs are for one image at inference, a multiply-add counted as two; padded taps count.
"""

import json
from collections.abc import Sequence

from absl import flags
from rich import box
from rich.console import Console
from rich.table import Table

from cnn_jax.analysis.summary import (
    LAYER_COLUMNS,
    Summary,
    byte_text,
    layer_cells,
    summarize,
    times,
)
from cnn_jax.config_checks import validate
from cnn_jax.data.datasets import dataset_spec
from cnn_jax.training.network import build_network
from experiments import command_line

_CONFIG = command_line.define_config()
_ENOUGH = 10_000  # characters for any table; one takes as many as it needs
_FORMAT = flags.DEFINE_enum("format", "table", ["table", "json"], "a table for people, or JSON")


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    config = command_line.read_config(_CONFIG)
    validate(config)
    spec = dataset_spec(config.data)
    spec.check_size()
    model = build_network(config, spec)
    summary = summarize(model, spec.image_shape)
    if _FORMAT.value == "json":
        print(json.dumps({"config": config.name, "model": config.model.name} | summary.as_json()))
    else:
        print_table(summary, f"{config.model.name} ({config.name})")


def print_table(summary: Summary, title: str) -> None:
    """Prints the table as wide as it is: in a narrow terminal lines wrap, no number is cut."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for i, name in enumerate(LAYER_COLUMNS):
        table.add_column(name, justify="left" if i < 2 else "right", no_wrap=True)
    table.add_row("input", "", times(summary.image_shape))
    for row in summary.rows:
        table.add_row(*layer_cells(row))
    table.add_section()
    table.add_row(
        "total", "", "", "", "", f"{summary.trainable:,}", f"{summary.flops / 1e6:,.2f}", "",
        byte_text(summary.activation_bytes),
    )  # fmt: skip
    console = Console(width=_ENOUGH, highlight=False)
    console.print(table)
    console.print(
        f"{summary.trainable:,} parameters are trained, {summary.not_trainable:,} numbers are "
        "running statistics.\nFor one image in float32; a multiply-add is two FLOPs."
    )
    if summary.seen_shape != summary.image_shape:
        console.print(
            f"The logits depend on {times(summary.seen_shape)} of the input, at the top left; "
            "training and prediction\ncompute no more than that takes."
        )


if __name__ == "__main__":
    command_line.run(main)
