"""One run from start to end: restore, train, evaluate, save, and leave a result."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from cnn_jax.config import Config, steps_per_epoch
from cnn_jax.config_checks import validate
from cnn_jax.data.augment import AugmentFn
from cnn_jax.data.datasets import Split
from cnn_jax.models.registry import count_parameters
from cnn_jax.placement import replicated
from cnn_jax.training import provenance
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.clock import Clock
from cnn_jax.training.device_steps import check_shares
from cnn_jax.training.evaluation import Evaluation, evaluate
from cnn_jax.training.feeding import eval_batches, feed_line, make_feeder
from cnn_jax.training.finite import finite
from cnn_jax.training.interruption import StopRequest, stop_on_signals
from cnn_jax.training.losses import LossFn
from cnn_jax.training.metrics import compute, merge, score
from cnn_jax.training.optimizer import unread
from cnn_jax.training.ownership import own_directory
from cnn_jax.training.parallel import once_options
from cnn_jax.training.pictures import Pictures, reported
from cnn_jax.training.processes import Agreement, is_first
from cnn_jax.training.programs import calls, compile_programs, each_step, steps_at_once
from cnn_jax.training.progress import Display
from cnn_jax.training.run_directory import (
    CONFIG,
    RESULT,
    check_run,
    read_json,
    writing,
)
from cnn_jax.training.saving import Saving
from cnn_jax.training.setup import (
    Experiment,
    abstract_state,
    build_experiment,
    check_new_run,
    initial_state,
    source_variables,
)
from cnn_jax.training.state import Purpose, TrainState, key_for, model_variables
from cnn_jax.training.writers import Row, Writers, open_writers
from cnn_jax.whole_files import write_json


def train_and_evaluate(
    config: Config,
    workdir: Path,
    *,
    clock: Clock | None = None,
    loss_fn: LossFn | None = None,
    augment_fn: AugmentFn | None = None,
    run_type: "type[Run] | None" = None,
) -> dict[str, Any]:
    """Trains, evaluates on the test split, and returns what it writes to `result.json`.

    A run directory that holds checkpoints of the same config is taken up where the last one was
    made, and ends as if it had never stopped; a finished one is left as it is.

    Args:
      config: what to do.
      workdir: the run directory.
      clock: counts the time since the process began; a new one by default.
      loss_fn: loss_fn(logits, batch), one value per example, instead of the config's.
      augment_fn: augment_fn(key, batch), applied after the config's augmentation and normalisation;
        what it adds to the batch reaches `loss_fn`.
      run_type: what goes through the run's stages, `Run` unless given.

    Raises:
      InputError: the config, the data or the run directory is wrong; nothing was changed.
      RunError: the run can't go on: a gradient is not finite, or a checkpoint can't be written.
      Stopped: SIGTERM, SIGINT or the time limit came; a checkpoint is saved.
    """
    clock, run_type = clock or Clock(), run_type or Run
    validate(config)
    check_run(workdir, config)
    first = is_first()
    with Display(quiet=not first) as display:
        if finished := read_json(workdir / RESULT):
            display.say(f"{workdir} holds a finished run; give another --workdir for a new one")
            return finished
        with clock.stage("data"):
            experiment = build_experiment(config, loss_fn=loss_fn, augment_fn=augment_fn)
        run_type.check(experiment)
        if unused := ", ".join(f"optim.{name}" for name in unread(config.optim)):
            kind = f"optim.name={config.optim.name} optim.schedule={config.optim.schedule}"
            display.say(f"without effect with {kind}: {unused}")
        if not (workdir / CONFIG).exists():
            check_new_run(experiment)
        with (
            stop_on_signals() as request,
            own_directory(workdir, experiment) if first else contextlib.nullcontext(),
            Checkpoints(workdir / "checkpoints", warn=display.say) as checkpoints,
        ):
            run = run_type(experiment, workdir, checkpoints, display, clock, request)
            result = run.result(run.train(run.start()))
            if first:
                with writing(workdir / RESULT):
                    write_json(workdir / RESULT, result)
        accuracy = f"test accuracy {result['test_accuracy']:.2%}"
        display.say(f"{accuracy} on {result['test_examples']} examples; see {workdir / RESULT}")
    return result


class Run:
    """A run under way: the experiment with its compiled steps, feeds, checkpoints and writers."""

    def __init__(
        self,
        experiment: Experiment,
        workdir: Path,
        checkpoints: Checkpoints,
        display: Display,
        clock: Clock,
        request: StopRequest,
    ):
        self.experiment, self.workdir, self.checkpoints = experiment, workdir, checkpoints
        self.display, self.clock, self.request = display, clock, request
        self._place_data()
        config = experiment.config
        self.eval_every = evaluations_every(experiment)
        self.time_limit = f"train.max_seconds={config.train.max_seconds:g}"
        self.agreed = Agreement(experiment.mesh, ("SIGTERM", "SIGINT", self.time_limit))
        self.checkpoint_every = config.train.checkpoint_every or _epoch(experiment)

    @staticmethod
    def check(experiment: Experiment) -> None:
        """Raises InputError unless the devices can do the work; before anything is written."""
        check_shares(experiment.config, experiment.mesh)
        steps_at_once(experiment)

    def _place_data(self) -> None:
        dataset, self.sharding = self.experiment.dataset, replicated(self.experiment.mesh)
        with self.clock.stage("data"):
            self.test = eval_batches(self.experiment, dataset.test)
            self.validation = dataset.validation and eval_batches(
                self.experiment, dataset.validation
            )

    def start(self) -> TrainState:
        """Returns the state to go on from: the last checkpoint's, else a new one."""
        self.sums = []  # of the steps since the last row, by an earlier process
        with self.clock.stage("checkpoint"):
            found = self.checkpoints.restore_latest(abstract_state(self.experiment))
        if found:
            self.start_step, state = found
            self.sums = self.checkpoints.metrics(self.start_step).get("sums", [])
            self.display.say(f"resumed {self.workdir} at step {self.start_step}")
        else:
            with self.clock.stage("checkpoint"):
                source = source_variables(self.experiment, say=self.display.say)
            with self.clock.stage("compile"):
                self.start_step, state = 0, initial_state(self.experiment, source)
        self._introduce(state.params)
        with self.clock.stage("data"):
            self.feeder = make_feeder(self.experiment, self.start_step)
        self._compile(state)
        return state

    def _introduce(self, params: PyTree) -> None:
        self.parameters = count_parameters(params)
        config, dataset = self.experiment.config, self.experiment.dataset
        self.display.say(
            f"{config.name or config.model.name}: {self.parameters:,} parameters, "
            f"{len(dataset.train):,} training images of {dataset.spec.name}, "
            f"{self.experiment.steps} steps on {provenance.device_line(self.experiment.mesh)}"
        )
        self.display.say(feed_line(dataset))

    def _compile(self, state: TrainState) -> None:
        self.display.say("compiling …")
        with self.clock.stage("compile"):
            new_key = partial(key_for, self.experiment.config.seed, Purpose.STEP)
            self.key = jax.jit(new_key, out_shardings=self.sharding)()
            self.programs = compile_programs(
                self.experiment,
                state,
                feed=self.feeder.example(),
                key=self.key,
                batch=next(iter(self.test)),
                counts={count for _, count in self._calls()},
            )

    def _calls(self) -> Iterator[tuple[int, int]]:
        """Yields the last step and the number of steps of each call of a compiled program."""
        most = steps_at_once(self.experiment)
        return calls(self.start_step, self.experiment.steps, most=most, due=self._due)

    def train(self, state: PyTree) -> PyTree:
        """Returns the state after the last step; writes rows and checkpoints on the way."""
        steps = self.experiment.steps
        self.last_step, train = self.start_step, self.experiment.config.train
        self.saving = Saving(self.checkpoints, train, clock=self.clock, say=self.display.say)
        pending: list[tuple[dict, int]] = []
        self.display.begin(steps, self.start_step)
        with (
            contextlib.closing(self.feeder),
            open_writers(self.workdir, self.start_step) as writers,
            self.clock.stage("train"),
        ):
            self.pictures = Pictures(self.experiment, state, writers, self.clock)
            since = self._train_seconds()
            for step, count in self._calls():
                if self._out_of_patience(step - count):
                    break
                take_steps, feed = self.programs.train[count], self._feed(step - count, pending)
                state, sums = take_steps(state, feed, self.key)
                pending.append((sums, count))
                self.pictures.write_batch()  # while the first step is computed
                self.display.advance(step)
                self.last_step = step
                stop = self._stop_reason()  # read once: a signal may come at any moment
                if stop or self._due(step):
                    sums = [s for each in jax.device_get(pending) for s in each_step(*each)]
                    look, save = self._look if self._due(step) else self._hold, stop is not None
                    state = look(step, state, sums, since, writers, save=save)
                    pending, since = [], self._train_seconds()
                if stop:
                    self.saving.stop(f"stopped by {stop} at step {step}", steps, self.workdir)
        return state

    def _feed(self, taken: int, running: list) -> Any:
        """Returns what the next step takes its batch from, having waited for it if need be."""
        self.feeder.hold_back(running)
        with self.clock.stage("input"):
            return self.feeder(taken)

    def _look(
        self, step: int, state: PyTree, sums: list, since: float, writers: Writers, *, save: bool
    ) -> PyTree:
        """Writes a row, evaluates and saves as is due; returns the state to go on with."""
        row = self._train_row(step, state, self._finite(sums, step, state), since)
        self._evaluate_and_save(step, state, row, writers, save=save)
        return state

    def _hold(self, step: int, state: TrainState, sums: list, *_: Any, **__: Any) -> TrainState:
        """Saves between two rows, of a run that stops: the next one is written when it goes on."""
        self.sums += self._finite(sums, step, state)
        sums = [{name: np.asarray(value).item() for name, value in s.items()} for s in self.sums]
        self.saving.save(step, state, {"sums": sums})
        return state

    def _stop_reason(self) -> str | None:
        limit, reason = self.experiment.config.train.max_seconds, self.request.reason
        if limit and sum(self.clock.seconds().values()) > limit:
            reason = self.time_limit
        return self.agreed(reason)

    def _out_of_patience(self, step: int) -> bool:
        """Whether the run ends early: derived from the best checkpoint, so resuming agrees."""
        patience = self.experiment.config.train.patience
        best = self.saving.best
        return bool(patience and best and step - best[0] >= patience * self.eval_every)

    def _finite(self, pending: list[dict], step: int, state: TrainState) -> list[dict]:
        allowed = self.experiment.config.train.skip_nonfinite
        skipped = int(state.skipped)
        return finite(pending, step=step, params=state.params, skipped=skipped, allowed=allowed)

    def _train_seconds(self) -> float:
        """Returns the seconds spent on steps, those in which they waited for input among them."""
        seconds = self.clock.seconds()
        return seconds.get("train", 0.0) + seconds.get("input", 0.0)

    def _due(self, step: int) -> bool:
        """Whether a row is written: rows end at every checkpoint, so a resumed run repeats them."""
        every = (self.experiment.config.train.log_every, self.eval_every, self.checkpoint_every)
        return step == self.experiment.steps or any(step % n == 0 for n in every)

    def _train_row(self, step: int, state: TrainState, pending: list, since: float) -> Row:
        images = len(pending) * self.experiment.config.data.batch_size
        totals, self.sums = merge([*self.sums, *pending]), []
        return {
            **self._position(step),
            **train_means(self.experiment, step - int(state.skipped), totals),
            "images_per_second": images / (self._train_seconds() - since),
        }

    def _position(self, step: int) -> Row:
        images = step * self.experiment.config.data.batch_size
        return {"step": step, "epoch": images / len(self.experiment.dataset.train)}

    def _evaluate_and_save(
        self, step: int, state: TrainState, row: Row, writers: Writers, *, save: bool
    ) -> None:
        last, split = step == self.experiment.steps, self.experiment.dataset.validation
        metrics = None
        if split and (last or step % self.eval_every == 0):
            evaluation = self.evaluate(self.programs.evaluate, state, self.validation, split)
            metrics = evaluation.metrics
            self.pictures.write(step, state, evaluation)
            row |= {f"validation_{name}": value for name, value in metrics.items()}
        with self.saving.heeding_errors():
            writers.write(row)
        self.display.row(row, self.experiment.steps)
        due = save or last or step % self.checkpoint_every == 0
        if due or metrics:
            self.saving.settle()  # what is best depends on whether it was saved
        improved = metrics is not None and self.saving.improves(step, metrics)
        if due or improved:
            # Metrics go with improvements alone, so that the best on disk is the best here.
            self.saving.save(step, state, metrics if improved else None)

    def evaluate(
        self, step: Callable, state: TrainState, batches: Iterable, split: Split
    ) -> Evaluation:
        """Returns the exact evaluation of a state on a split."""
        with self.clock.stage("evaluate"):
            variables: PyTree = model_variables(state)
            return evaluate(step, variables, batches, examples=len(split))

    def result(self, state: TrainState) -> dict[str, Any]:
        """Returns what the finished run leaves: the test metrics, costs and provenance."""
        stopped_early = self.last_step < self.experiment.steps
        self.saving.settle()
        best = self.saving.best
        if self.experiment.config.train.patience and best:
            state = self.checkpoints.restore(best[0], abstract_state(self.experiment))
        test = self.evaluate(self.programs.test, state, self.test, self.experiment.dataset.test)
        result = {
            **self._outcome(self.experiment.config, self.last_step, int(state.skipped), best),
            "stopped_early": stopped_early,
            **{f"test_{name}": value for name, value in test.metrics.items()},
            **self._costs(self.last_step - self.start_step),
        }
        tested = {"test": test, "step": int(state.step), "clock": self.clock}
        return reported(result, self.workdir, self.experiment, **tested, say=self.display.say)

    def _outcome(
        self, config: Config, steps: int, skipped: int, best: tuple[int, float] | None
    ) -> dict[str, Any]:
        dataset, monitor = self.experiment.dataset, config.train.monitor
        return {
            "config": config.name,
            "seed": config.seed,
            "steps": steps,
            "skipped_steps": skipped,
            "resumed_from_step": self.start_step,
            "test_examples": len(dataset.test),
            "best_validation": best
            and {"step": best[0], monitor: score({monitor: best[1]}, monitor)},
            "synthetic_data": dataset.spec.synthetic,
            "skipped_examples": list(dataset.skipped),
            "parameters": self.parameters,
        }

    def _costs(self, steps: int) -> dict[str, Any]:
        """Returns where the time of this process went, in which `steps` batches were trained on."""
        images = steps * self.experiment.config.data.batch_size
        costs = provenance.costs(self.clock.seconds(), images=images)
        return {
            "feed": self.experiment.dataset.feed,
            **costs,
            **provenance.facts(self.experiment.mesh),
        }


def evaluations_every(experiment: Experiment) -> int:
    """Returns after how many steps each a run is evaluated."""
    return experiment.config.train.eval_every or _epoch(experiment)


def _epoch(experiment: Experiment) -> int:
    return steps_per_epoch(experiment.config, len(experiment.dataset.train))


def train_means(experiment: Experiment, updates: int, totals: dict[str, float]) -> Row:
    """Returns the training metrics of the steps up to so many updates; `totals` are their sums."""
    means = compute(totals)
    # Whole: operation by operation, a schedule takes ten times as long to compile.
    rate_at = jax.jit(experiment.learning_rate, compiler_options=once_options())
    rate = float(rate_at(max(0, updates - 1))) * means.pop("rate_scale", 1.0)
    return {f"train_{name}": value for name, value in means.items()} | {"learning_rate": rate}
