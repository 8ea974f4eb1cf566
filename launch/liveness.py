"""Which running trials still have a worker: workers can die at any moment.

With a journal file the lock file of every running trial is held by its worker and by the training
process; a running trial whose lock is free is nobody's, and goes back into the queue. In a database
Optuna's heartbeats tell: a silent trial is failed and asked for again.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import optuna
from optuna.trial import TrialState

from launch import locks


class Liveness:
    """The signs of life of a sweep's running trials, given and looked for."""

    def __init__(
        self, workdir: Path, study: optuna.Study, storage: optuna.storages.BaseStorage
    ) -> None:
        self._workdir, self._study, self._storage = workdir, study, storage
        self._in_database = isinstance(storage, optuna.storages.RDBStorage)
        self._next_beat = 0.0

    def hold(self, trial: optuna.Trial) -> TextIO:
        """Returns the lock of a trial that this process begins to run; closing it gives it up."""
        lock = locks.take(self._lock_file(trial.number))
        self._beat(trial)
        return lock

    def beat(self, trials: Iterable[optuna.Trial]) -> None:
        """Gives a sign of life for every one of these, once an interval of the storage's."""
        if self._in_database and time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + self._storage.get_heartbeat_interval()
            for trial in trials:
                self._beat(trial)

    def take_back_orphans(self) -> None:
        """Puts the running trials that are nobody's into the queue again."""
        if self._in_database:
            optuna.storages.fail_stale_trials(self._study)
            return
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if lock := locks.take(self._lock_file(trial.number)):
                with lock:
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def _beat(self, trial: optuna.Trial) -> None:
        if self._in_database:
            self._storage.record_heartbeat(trial._trial_id)

    def _lock_file(self, number: int) -> Path:
        return self._workdir / "trials" / f"{number:04d}.lock"
