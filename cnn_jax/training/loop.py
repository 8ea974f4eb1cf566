"""One run from start to end: restore, train, evaluate, save, and leave a result."""

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from cnn_jax.analysis.evaluation import Evaluation, evaluate
from cnn_jax.config import Config, steps_per_epoch
from cnn_jax.config_checks import validate
from cnn_jax.data.augment import AugmentFn
from cnn_jax.data.datasets import Split
from cnn_jax.data.resident import Feeder
from cnn_jax.data.streaming import StreamFeeder
from cnn_jax.errors import RunError
from cnn_jax.models.registry import count_parameters
from cnn_jax.training import provenance
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.clock import Clock
from cnn_jax.training.feeding import eval_batches, feed_line, make_feeder
from cnn_jax.training.interruption import Stopped, StopRequest, stop_on_signals
from cnn_jax.training.losses import LossFn
from cnn_jax.training.metrics import compute, merge, score
from cnn_jax.training.optimizer import path_name
from cnn_jax.training.parallel import compile_step, replicated
from cnn_jax.training.pictures import Pictures, reported
from cnn_jax.training.progress import Display
from cnn_jax.training.run_directory import (
    CONFIG,
    NORMALIZATION,
    RESULT,
    check_run,
    create_run,
    locked,
    read_json,
    write_json,
    write_spec,
)
from cnn_jax.training.setup import (
    Experiment,
    abstract_state,
    build_experiment,
    check_shares,
    check_source,
    fed_train_step,
    initial_state,
    sharded_eval_step,
)
from cnn_jax.training.state import Purpose, TrainState, key_for, model_variables
from cnn_jax.training.transfer import read_variables
from cnn_jax.training.writers import Row, Writers


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
    with Display() as display:
        if finished := read_json(workdir / RESULT):
            display.say(f"{workdir} holds a finished run; give another --workdir for a new one")
            return finished
        with clock.stage("data"):
            experiment = build_experiment(config, loss_fn=loss_fn, augment_fn=augment_fn)
        run_type.check(experiment)
        if config.train.init_from and not (workdir / CONFIG).exists():
            check_source(experiment)
        create_run(workdir, config)
        with (
            stop_on_signals() as request,
            locked(workdir),
            Checkpoints(workdir / "checkpoints", warn=display.say) as checkpoints,
        ):
            write_spec(workdir, experiment.dataset.spec)
            experiment.normalization.save(workdir / NORMALIZATION)
            run = run_type(experiment, workdir, checkpoints, display, clock, request)
            result = run.result(run.train(run.start()))
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
        epoch = steps_per_epoch(config, len(experiment.dataset.train))
        self.eval_every = config.train.eval_every or epoch
        self.checkpoint_every = config.train.checkpoint_every or epoch

    @staticmethod
    def check(experiment: Experiment) -> None:
        """Raises InputError unless the devices can share the work; before anything is written."""
        check_shares(experiment.config, experiment.mesh)

    def _place_data(self) -> None:
        dataset, self.sharding = self.experiment.dataset, replicated(self.experiment.mesh)
        with self.clock.stage("data"):
            self.test = eval_batches(self.experiment, dataset.test)
            self.validation = dataset.validation and eval_batches(
                self.experiment, dataset.validation
            )

    def _feeder(self) -> Feeder | StreamFeeder:
        return make_feeder(self.experiment, self.start_step)

    def start(self) -> TrainState:
        """Returns the state to go on from: the last checkpoint's, else a new one."""
        with self.clock.stage("checkpoint"):
            found = self.checkpoints.restore_latest(abstract_state(self.experiment))
        if found:
            self.start_step, state = found
            self.display.say(f"resumed {self.workdir} at step {self.start_step}")
        else:
            source = self._source()
            with self.clock.stage("compile"):
                self.start_step, state = 0, initial_state(self.experiment, source)
        self._introduce(state.params)
        with self.clock.stage("data"):
            self.feeder = self._feeder()
        self._compile(state)
        return state

    def _source(self) -> PyTree | None:
        """Returns the variables that `train.init_from` says to start from, if it says so."""
        directory = self.experiment.config.train.init_from
        if not directory:
            return None
        self.display.say(f"from the best weights of {directory}: {check_source(self.experiment)}")
        with self.clock.stage("checkpoint"):
            return read_variables(Path(directory), self.sharding)

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
        config = self.experiment.config
        placement = {
            "mesh": self.experiment.mesh,
            "way": config.parallel,
            "deterministic": config.train.deterministic,
        }
        with self.clock.stage("compile"):
            self.key = jax.device_put(key_for(config.seed, Purpose.STEP), self.sharding)
            example = (state, self.feeder.example(), self.key)
            step = fed_train_step(self.experiment)
            self.train_step = compile_step(step, example, donate=True, **placement)
            example = (model_variables(state), next(iter(self.test)))
            self.eval_step = compile_step(sharded_eval_step(self.experiment), example, **placement)
            self.test_step = self.eval_step
            if config.data.test_views:
                step = sharded_eval_step(self.experiment, test_views=True)
                self.test_step = compile_step(step, example, **placement)

    def train(self, state: PyTree) -> PyTree:
        """Returns the state after the last step; writes rows and checkpoints on the way."""
        steps = self.experiment.steps
        self.best, self.last_step = self.checkpoints.best, self.start_step
        pending: list[dict] = []
        self.display.begin(steps, self.start_step)
        with (
            contextlib.closing(self.feeder),
            Writers(self.workdir, self.start_step) as writers,
            self.clock.stage("train"),
        ):
            self.pictures = Pictures(self.experiment, state, writers, self.clock)
            since = self._train_seconds()
            for step in range(self.start_step + 1, steps + 1):
                if self._out_of_patience(step - 1):
                    break
                state, sums = self.train_step(state, self._feed(step, pending), self.key)
                pending.append(sums)
                self.display.advance(step)
                self.last_step = step
                stop = self._stop_reason()  # read once: a signal may come at any moment
                if stop or self._due(step):
                    sums, save = jax.device_get(pending), stop is not None
                    state = self._look(step, state, sums, since, writers, save=save)
                    pending, since = [], self._train_seconds()
                if stop:
                    raise Stopped(
                        f"stopped by {stop} at step {step} of {steps}, saved; "
                        f"the same command with --workdir={self.workdir} goes on"
                    )
        return state

    def _feed(self, step: int, running: list) -> Any:
        """Returns what the step takes its batch from, having waited for it if need be."""
        self.feeder.hold_back(running)
        with self.clock.stage("input"):
            return self.feeder(step - 1)

    def _look(
        self,
        step: int,
        state: TrainState,
        sums: list,
        since: float,
        writers: Writers,
        *,
        save: bool,
    ) -> TrainState:
        """Writes a row, evaluates and saves as is due; returns the state to go on with."""
        row = self._train_row(step, self._finite(sums, step, state), since)
        self._evaluate_and_save(step, state, row, writers, save=save)
        return state

    def _stop_reason(self) -> str | None:
        limit = self.experiment.config.train.max_seconds
        if limit and sum(self.clock.seconds().values()) > limit:
            return f"train.max_seconds={limit:g}"
        return self.request.reason

    def _out_of_patience(self, step: int) -> bool:
        """Whether the run ends early: derived from the best checkpoint, so resuming agrees."""
        patience = self.experiment.config.train.patience
        return bool(patience and self.best and step - self.best[0] >= patience * self.eval_every)

    def _finite(self, pending: list[dict], step: int, state: TrainState) -> list[dict]:
        """Returns the sums without `nonfinite`; raises RunError at more bad steps than allowed."""
        bad = [int(sums.pop("nonfinite")) for sums in pending]
        allowed = self.experiment.config.train.skip_nonfinite
        if max(bad) < 0 or (int(state.skipped) <= allowed and allowed):
            return pending
        i = next(i for i, index in enumerate(bad) if index >= 0)
        path, _ = jax.tree_util.tree_leaves_with_path(state.params)[bad[i]]
        raise RunError(
            f"the gradient of {path_name(path)} is not finite at step {step - len(bad) + i + 1}"
            f"{f', after {allowed} skipped steps' if allowed else ''}; the checkpoints before it "
            "are kept. Try a lower optim.learning_rate, optim.clip_norm or train.skip_nonfinite"
        )

    def _train_seconds(self) -> float:
        """Returns the seconds spent on steps, those in which they waited for input among them."""
        seconds = self.clock.seconds()
        return seconds.get("train", 0.0) + seconds.get("input", 0.0)

    def _due(self, step: int) -> bool:
        """Whether a row is written: rows end at every checkpoint, so a resumed run repeats them."""
        every = (self.experiment.config.train.log_every, self.eval_every, self.checkpoint_every)
        return step == self.experiment.steps or any(step % n == 0 for n in every)

    def _train_row(self, step: int, pending: list, since: float) -> Row:
        totals = merge(pending)
        return {
            **self._position(step),
            **train_means(self.experiment, step, totals),
            "images_per_second": totals["examples"] / (self._train_seconds() - since),
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
            evaluation = self.evaluate(self.eval_step, state, self.validation, split)
            metrics = evaluation.metrics
            self.pictures.write(step, state, evaluation)
            row |= {f"validation_{name}": value for name, value in metrics.items()}
        writers.write(row)
        self.display.row(row, self.experiment.steps)
        improved = metrics is not None and self._improves(step, metrics)
        if save or improved or last or step % self.checkpoint_every == 0:
            # Metrics go with improvements alone, so that the best on disk is the best here.
            self._save(step, state, metrics if improved else None)

    def _improves(self, step: int, metrics: dict[str, float]) -> bool:
        """Notes a validation and tells whether it is the best so far, by the least change asked."""
        train = self.experiment.config.train
        metrics["score"] = score(metrics, train.monitor)
        if self.best and not metrics["score"] > self.best[1] + train.min_change:
            return False
        self.best = (step, metrics["score"])
        return True

    def _save(self, step: int, state: PyTree, metrics: dict[str, Any] | None) -> None:
        try:
            with self.clock.stage("checkpoint"):
                self.checkpoints.save(step, state, metrics)
        except OSError as error:
            text = f"the checkpoint of step {step} can't be written: {error}; earlier ones are kept"
            if self.experiment.config.train.on_save_error == "stop":
                raise RunError(text) from error
            self.display.say(text)

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
        if self.experiment.config.train.patience and self.best:
            state = self.checkpoints.restore(self.best[0], abstract_state(self.experiment))
        test = self.evaluate(self.test_step, state, self.test, self.experiment.dataset.test)
        with self.clock.stage("checkpoint"):
            self.checkpoints.wait()
        result = {
            **self._outcome(self.experiment.config, self.last_step, int(state.skipped), self.best),
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
        train_seconds, seconds = self._train_seconds(), self.clock.seconds()
        images = steps * self.experiment.config.data.batch_size
        waited = seconds.get("input", 0.0)
        return {
            "feed": self.experiment.dataset.feed,
            "train_seconds": train_seconds,
            "compile_seconds": seconds["compile"],
            "evaluate_seconds": seconds["evaluate"],
            "input_wait_seconds": waited,
            "input_wait_fraction": waited / train_seconds if images else None,
            "images_per_second": images / train_seconds if images else None,
            "seconds": seconds,
            **provenance.facts(self.experiment.mesh),
        }


def train_means(experiment: Experiment, step: int, totals: dict[str, float]) -> Row:
    """Returns the training metrics of the steps up to `step`, of which `totals` are the sums."""
    means = compute(totals)
    rate = float(experiment.learning_rate(step - 1)) * means.pop("rate_scale", 1.0)
    return {f"train_{name}": value for name, value in means.items()} | {"learning_rate": rate}
