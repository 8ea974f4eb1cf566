"""Checkpoints of the train state through Orbax: written in the background, latest and best kept."""

import contextlib
import json
import math
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint import checkpoint_managers as policies

from cnn_jax.errors import InputError
from cnn_jax.training.parameter_paths import path_name
from cnn_jax.training.processes import is_first, wait_for_all

KEPT_LATEST = 2  # one more than needed, in case a crash damages the newest
FORMAT = 1  # of the train state on disk; raise it when an older state can no longer be taken up


class SaveError(OSError):
    """A checkpoint can't be written; those before it are as they were."""


class Damaged(InputError):
    """A checkpoint can't be read; `reason` says why in a few words."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"checkpoint {path} is damaged: {reason}")
        self.reason = reason


class Checkpoints:
    """The checkpoints of one run directory; use as a context manager, so that saves finish.

    The best checkpoint is the one saved with the highest `score`, or `accuracy` where its metrics
    have no score; of equals, the earliest.
    """

    def __init__(
        self, directory: Path, *, read_only: bool = False, warn: Callable[[str], None] = print
    ):
        self._directory, self._warn = directory, warn
        self._saving: int | None = None
        self._failed = False  # whether any save has
        wait_for_all("checkpoints are looked at")  # before the first process sets any aside
        for step in _unreadable(directory):  # Orbax reads all of these when it opens
            if read_only:
                raise InputError(f"checkpoint {directory / step} is damaged: it can't be read")
            self._set_aside(step, "its metadata can't be read")
        best = policies.BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=_rank,  # without it Orbax forgets the metrics when the process ends
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(KEPT_LATEST), best]
            ),
            cleanup_tmp_directories=not read_only,
            create=not read_only,
        )
        if read_only and not directory.is_dir():
            raise InputError(f"no checkpoint in {directory}; train the run first")
        self._manager = ocp.CheckpointManager(
            directory.absolute(), options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is jax.errors.JaxRuntimeError and jax.process_count() > 1:
            return  # another process is gone, and a save ends with all or not at all
        try:
            self.wait()
        except SaveError as error:
            if kind is None:
                raise
            self._warn(str(error))
        finally:
            self._manager.close()
            if self._failed:
                self._remove_halves()

    @property
    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    @property
    def best(self) -> tuple[int, float] | None:
        """The step and score of the best checkpoint, None if none was saved with metrics."""
        scores = {step: _score(self.metrics(step)) for step in self._manager.all_steps()}
        scored = [(step, score) for step, score in scores.items() if score is not None]
        return max(scored, key=lambda item: (item[1], -item[0]), default=None)

    def metrics(self, step: int) -> dict[str, Any]:
        """Returns what was saved with the state of `step`."""
        return self._manager.metrics(step) or {}

    def save(self, step: int, state: PyTree, metrics: dict[str, Any] | None = None) -> None:
        """Starts saving the state of `step`; returns once it is copied off the device.

        `metrics` are kept with it; with a score or accuracy among them it may be the best.

        Raises:
          SaveError: the checkpoint before this one, or this one, can't be written.
        """
        self.wait()
        if step == self.latest:
            return
        known = {"step": step, "format": FORMAT, **(metrics or {})}
        self._saving = step
        with self._telling():
            self._manager.save(step, args=ocp.args.StandardSave(state), metrics=known, force=True)

    def wait(self) -> None:
        """Returns once everything saved so far is complete on disk.

        Raises:
          SaveError: it can't be written. Saving again may well succeed.
        """
        with self._telling():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Turns what Orbax raises into SaveError; removes half checkpoints, to make room.

        All there are, and once more at the end: into that of a save which has failed its threads
        may write a while longer.
        """
        try:
            yield
        except (OSError, ValueError) as error:  # TensorStore tells of a full disk as a ValueError
            self._failed = True
            self._remove_halves()
            reason = str(error).partition(" [")[0].rpartition(": ")[2]
            raise SaveError(
                f"the checkpoint of step {self._saving} can't be written: {reason}; earlier ones "
                "are kept"
            ) from error

    def _remove_halves(self) -> None:
        for path in self._directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def restore(self, step: int, template: PyTree) -> PyTree:
        """Returns the state saved at `step`, shaped, typed and placed like `template`.

        `template` holds arrays or `jax.ShapeDtypeStruct`s with shardings.

        Raises:
          InputError: another version of the program made it, with another kind of state.
          Damaged: it can't be read.
        """
        with self._reading(step):
            known = self._manager.metrics(step)
        if not known:
            raise Damaged(self._directory / str(step), "its metrics are missing")
        if (found := known.get("format", 0)) != FORMAT:
            raise InputError(
                f"{self._directory / str(step)} has checkpoint format {found}, this version of "
                f"cnn_jax takes up format {FORMAT}: go on with the version that made it (see "
                "result.json or requirements), or start anew with another --workdir"
            )
        with self._reading(step):
            return self._manager.restore(step, args=ocp.args.StandardRestore(template))

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Turns what a damaged file shows itself in, which is many kinds of error, into Damaged."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            raise Damaged(self._directory / str(step), _first_words(error)) from error

    def restore_fields(self, step: int, template: dict[str, PyTree]) -> dict[str, PyTree]:
        """Returns the fields of the state saved at `step` that `template` names; reads no others.

        Raises:
          InputError: they are of another network.
          Damaged: they can't be read.
        """
        path = self._directory.absolute() / str(step) / "default"  # Orbax's name for a single item
        arguments = ocp.args.PyTreeRestore(
            template,
            restore_args=ocp.checkpoint_utils.construct_restore_args(template),
            partial_restore=True,
        )
        with self._reading(step):
            self._check_fits(step, template, fields=template.keys())
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                return reader.restore(path, args=arguments)

    def shapes(self, step: int) -> PyTree:
        """Returns the shapes and types of the state saved at `step`, as nested dictionaries.

        Raises:
          Damaged: they can't be read.
        """
        with self._reading(step):
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
                self._manager.item_metadata(step).tree,
                is_leaf=lambda leaf: hasattr(leaf, "shape"),
            )

    def restore_latest(self, template: PyTree) -> tuple[int, PyTree] | None:
        """Returns step and state of the newest checkpoint that can be read, None if there is none.

        One that is damaged is reported and set aside under another name; the one before is tried.

        Raises:
          InputError: a checkpoint is whole but of another network or optimizer.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                with self._reading(step):
                    self._check_fits(step, template)
                return step, self.restore(step, template)
            except Damaged as error:
                self._set_aside(str(step), error.reason)
                self._manager.reload()
        return None

    def _set_aside(self, step: str, reason: str) -> None:
        path, aside = self._directory / step, self._directory / f"damaged-{step}"
        self._warn(f"checkpoint {path} is damaged and set aside as {aside.name}: {reason}")
        wait_for_all(f"checkpoint {step} is damaged")
        if is_first():
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        wait_for_all(f"checkpoint {step} is set aside")

    def _check_fits(
        self, step: int, template: PyTree, fields: Collection[str] | None = None
    ) -> None:
        tree = self._manager.item_metadata(step).tree
        saved = _shapes(tree if fields is None else {name: tree[name] for name in fields})
        wanted = _shapes(template)
        if saved != wanted:
            names = sorted(n for n in {*saved, *wanted} if saved.get(n) != wanted.get(n))
            told = ", ".join(
                f"{name} is {saved.get(name, 'absent')} there, not {wanted.get(name, 'absent')}"
                for name in names[:3]
            )
            raise InputError(
                f"{self._directory / str(step)} is of another network or optimizer: {told}"
                + (f", and {len(names) - 3} more differ" if len(names) > 3 else "")
            )

    def find(self, which: str) -> int:
        """Returns the step of the "best" or "last" checkpoint; without a best one, the last.

        Raises:
          InputError: there is no checkpoint.
        """
        if self.latest is None:
            raise InputError(f"no checkpoint in {self._directory}; train the run first")
        best = self.best
        return best[0] if which == "best" and best else self.latest


def _rank(metrics: dict[str, Any]) -> tuple[float, float]:
    """Of equal scores the earliest is best; what was not evaluated ranks below everything."""
    score = _score(metrics)
    return (-math.inf, metrics["step"]) if score is None else (score, -metrics["step"])


def _score(metrics: dict[str, Any]) -> float | None:
    return metrics.get("score", metrics.get("accuracy"))


def _unreadable(directory: Path) -> list[str]:
    """Returns the complete checkpoints whose metadata or metrics are no JSON."""
    bad = []
    for path in directory.glob("*") if directory.is_dir() else []:
        files = [path / "_CHECKPOINT_METADATA", path / "metrics" / "metrics"]
        try:
            for file in files if path.name.isdigit() else []:
                if file.exists():
                    json.loads(file.read_bytes())
        except ValueError:
            bad.append(path.name)
    return bad


def _first_words(error: Exception) -> str:
    words = re.split(r"\[|\. See full", str(error))[0]  # what follows are TensorStore's details
    return words.strip()[:200] or type(error).__name__


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {path_name(path): tuple(leaf.shape) for path, leaf in leaves}


def abstract(state: PyTree, sharding: jax.sharding.Sharding) -> PyTree:
    """Returns the shapes and types of a state, to be restored with the given sharding."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state
    )
