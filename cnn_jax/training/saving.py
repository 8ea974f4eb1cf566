"""A run's checkpoints: restored, saved, which is the best, and what follows where that fails."""

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
    """The checkpoints of one run, saved in the background; its config says what an error means."""

    def __init__(
        self, checkpoints: Checkpoints, train: Train, *, clock: Clock, say: Callable[[str], None]
    ):
        self._checkpoints, self._train, self._clock, self._say = checkpoints, train, clock, say
        self.best: tuple[int, float] | None = None  # step and score

    def restore_latest(self, template: PyTree) -> tuple[int, PyTree, dict[str, Any]] | None:
        """Returns the step, the state and the metrics of the last checkpoint, if there is one."""
        with self._clock.stage("checkpoint"):
            found = self._checkpoints.restore_latest(template)
            self.best = self._checkpoints.best
            return found and (*found, self._checkpoints.metrics(found[0]))

    def best_state(self, template: PyTree) -> PyTree:
        """Returns the state of the best checkpoint."""
        return self._checkpoints.restore(self.best[0], template)

    def improves(self, step: int, metrics: dict[str, float]) -> bool:
        """Notes a validation; tells whether it is better than all by over `train.min_change`."""
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

    def stop(self, reason: str, step: int, steps: int, workdir: Path) -> NoReturn:
        """Ends a run once its last save is through; one that is lost is an error in any config."""
        stopped = f"stopped by {reason} at step {step}"
        try:
            with self._clock.stage("checkpoint"):
                self._checkpoints.wait()
        except SaveError as error:
            raise RunError(f"{stopped}, not saved: {error}") from error
        if self._checkpoints.latest != step:  # it failed when it was begun, and that was told
            raise RunError(f"{stopped}, not saved; earlier checkpoints are kept")
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
