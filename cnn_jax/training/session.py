"""What a run is to the loop that takes its steps, and what the loop hands to it."""

import abc
import dataclasses
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from cnn_jax.training.clock import Clock
from cnn_jax.training.progress import Display
from cnn_jax.training.saving import Saving
from cnn_jax.training.setup import Experiment
from cnn_jax.training.writers import Writers


@dataclasses.dataclass(frozen=True)
class Session:
    """Where a run lies, how it is saved, and whom it tells."""

    workdir: Path
    saving: Saving
    display: Display
    clock: Clock


class Run(abc.ABC):
    """One network or many, in the stages that `training.loop` takes it through."""

    start_step: int  # at which it is taken up
    feeder: Any  # gives what a call draws its batches from; it may be another after a row

    def __init__(self, experiment: Experiment, session: Session):
        self.experiment, self.session = experiment, session

    @staticmethod
    @abc.abstractmethod
    def check(experiment: Experiment) -> None:
        """Raises InputError unless the devices can do the work; before anything is written."""

    @abc.abstractmethod
    def start(self) -> PyTree:
        """Returns the state to go on from, the last checkpoint's or a new one; compiles."""

    @abc.abstractmethod
    def begin(self, state: PyTree, writers: Writers) -> None:
        """Takes note of the state before the first step, and of where rows go."""

    @abc.abstractmethod
    def take_steps(self, state: PyTree, feed: PyTree, count: int) -> tuple[PyTree, PyTree]:
        """Returns the state after so many steps, and their sums."""

    @abc.abstractmethod
    def end_row(
        self, step: int, state: PyTree, sums: list, seconds: float, *, save: bool
    ) -> PyTree:
        """Writes the row of the steps up to one at which it is due, evaluates and saves as is due.

        Args:
          step: the last step taken.
          state: after it.
          sums: of each step since the last row.
          seconds: that they took.
          save: whether the run stops here, so that it is saved in any case.

        Returns:
          the state to go on with.
        """

    @abc.abstractmethod
    def save_within_row(self, step: int, state: PyTree, sums: list) -> None:
        """Saves a run that stops between two rows; the next is written when it goes on."""

    @abc.abstractmethod
    def is_over(self, step: int) -> bool:
        """Tells whether it ends early, after a step.

        It must follow from what is saved alone, so that a resumed run ends at the same step.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Ends what feeds it, however the training ended."""

    @abc.abstractmethod
    def result(self, state: PyTree) -> dict[str, Any]:
        """Returns what the finished run leaves: metrics on the test split, costs and provenance."""
