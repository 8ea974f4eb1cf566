"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere, on stderr."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cnn_jax.metric_rows import Row

_COLUMNS = {
    "train_loss": ("loss {:.4f}", 11),
    "train_accuracy": ("accuracy {:.2%}", 16),
    "images_per_second": ("{:,.0f} images/s", 16),
    "validation_loss": ("validation loss {:.4f}", 22),
    "validation_accuracy": ("accuracy {:.2%}", 16),
    "best_accuracy": ("best {:.2%}", 12),
}


def format_row(row: Row, total: int) -> str:
    """Returns a metric row as one line whose columns stand below those of the line before.

    >>> format_row({"step": 5, "epoch": 0.5, "train_loss": 2.25, "train_accuracy": 0.125}, 100)
    'step   5/100  epoch   0.50  loss 2.2500  accuracy 12.50%'
    """
    parts = [f"step {row['step']:{len(str(total))}}/{total}", f"epoch {row['epoch']:6.2f}"]
    for name, (text, width) in _COLUMNS.items():
        parts.append((text.format(row[name]) if name in row else "").ljust(width))
    return "  ".join(parts).rstrip()


class Display:
    """Shows lines and, on a terminal, a bar with the rate and the time left."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = None

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self.console.print(text, markup=False)

    def begin(self, total: int, done: int) -> None:
        """Starts the bar of a run of `total` steps, `done` of which lie behind."""
        self._task = self._progress.add_task("training", total=total, completed=done, rate="")

    def advance(self, step: int) -> None:
        """Moves the bar to `step`."""
        self._progress.update(self._task, completed=step)

    def row(self, row: Row, total: int) -> None:
        """Prints a metric row as a line and puts its rate beside the bar."""
        self.say(format_row(row, total))
        if "images_per_second" in row:
            rate = f"{row['images_per_second']:,.0f} images/s"
            self._progress.update(self._task, rate=rate)
