"""When a run's checkpoints are written, which is the best, and what follows where that fails."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from jaxtyping import PyTree

from cnn_jax.config import Train
from cnn_jax.errors import RunError
from cnn_jax.training.checkpoint import Checkpoints, SaveError
from cnn_jax.training.clock import Clock
from cnn_jax.training.interruption import Stopped
from cnn_jax.training.metrics import score


class Saving:
    """The saves of one run: in the background, as its config asks where one can't be written."""

    def __init__(
        self, checkpoints: Checkpoints, train: Train, *, clock: Clock, say: Callable[[str], None]
    ):
        self._checkpoints, self._train, self._clock, self._say = checkpoints, train, clock, say
        self.best = checkpoints.best  # step and score

    def improves(self, step: int, metrics: dict[str, float]) -> bool:
        """Notes a validation and tells whether it is the best so far, by the least change asked."""
        new = metrics["score"] = score(metrics, self._train.monitor)
        least = self.best[1] + self._train.min_change if self.best else -math.inf
        if not new > least:  # as it is of NaN
            return False
        self.best = (step, new)
        return True

    def save(self, step: int, state: PyTree, metrics: dict[str, Any] | None) -> None:
        """Starts to save a state, once the save before is through."""
        self.settle()
        with self._clock.stage("checkpoint"), self.heeding_errors():
            self._checkpoints.save(step, state, metrics)

    def settle(self) -> None:
        """Waits for the save under way, which is written, and fails, in the background."""
        with self._clock.stage("checkpoint"), self.heeding_errors():
            self._checkpoints.wait()

    def stop(self, stopped: str, steps: int, workdir: Path) -> NoReturn:
        """Ends a run once its last save is through; one that is lost is an error in any config."""
        try:
            with self._clock.stage("checkpoint"):
                self._checkpoints.wait()
        except SaveError as error:
            raise RunError(f"{stopped}, not saved: {error}") from error
        raise Stopped(
            f"{stopped} of {steps}, saved; the same command with --workdir={workdir} goes on"
        )

    @contextlib.contextmanager
    def heeding_errors(self) -> Iterator[None]:
        """Ends the run where something can't be written, or says so and goes on, by config."""
        try:
            yield
        except OSError as error:
            what = "" if isinstance(error, SaveError) else "metrics can't be written: "
            if self._train.on_save_error == "stop":
                raise RunError(f"{what}{error}") from error
            self._say(f"{what}{error}; the run goes on")
            self.best = self._checkpoints.best
