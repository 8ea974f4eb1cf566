"""The run of one network, on any number of devices and processes."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from cnn_jax.metric_rows import Row
from cnn_jax.models.registry import count_parameters
from cnn_jax.placement import replicated
from cnn_jax.training.cadence import (
    calls_from,
    checkpoint_is_due,
    evaluation_is_due,
    evaluations_every,
    steps_at_once,
)
from cnn_jax.training.device_steps import check_shares
from cnn_jax.training.evaluation import Evaluation, evaluate
from cnn_jax.training.feeding import eval_splits, make_feeder
from cnn_jax.training.finite import finite
from cnn_jax.training.metrics import merge
from cnn_jax.training.pictures import Pictures, reported
from cnn_jax.training.programs import compile_programs
from cnn_jax.training.records import costs, introduction, outcome, position, train_means
from cnn_jax.training.session import Run, Session
from cnn_jax.training.setup import Experiment, abstract_state, initial_state, source_variables
from cnn_jax.training.state import Purpose, TrainState, key_for, model_variables
from cnn_jax.training.writers import Writers


class SingleRun(Run):
    """A run under way, in the stages of `session.Run`."""

    def __init__(self, experiment: Experiment, session: Session):
        super().__init__(experiment, session)
        with session.clock.stage("data"):
            self.test, self.validation = eval_splits(experiment)

    @staticmethod
    def check(experiment: Experiment) -> None:
        """Raises InputError unless the devices can do the work; before anything is written."""
        check_shares(experiment.config, experiment.mesh)
        steps_at_once(experiment)

    def start(self) -> TrainState:
        """Returns the state to go on from, the last checkpoint's or a new one; compiles."""
        session = self.session
        if found := session.saving.restore_latest(abstract_state(self.experiment)):
            self.start_step, state, known = found
            self.sums = known.get("sums", [])  # of the steps since the last row
            session.display.say(f"resumed {session.workdir} at step {self.start_step}")
        else:
            self.start_step, state, self.sums = 0, self._new_state(), []
        self.last_step = self.start_step
        self.parameters = count_parameters(state.params)
        session.display.say(introduction(self.experiment, self.parameters))
        with session.clock.stage("data"):
            self.feeder = make_feeder(self.experiment, self.start_step)
        self._compile(state)
        return state

    def _new_state(self) -> TrainState:
        clock = self.session.clock
        with clock.stage("checkpoint"):
            source = source_variables(self.experiment, say=self.session.display.say)
        with clock.stage("compile"):
            return initial_state(self.experiment, source)

    def _compile(self, state: TrainState) -> None:
        self.session.display.say("compiling …")
        with self.session.clock.stage("compile"):
            new_key = partial(key_for, self.experiment.config.seed, Purpose.STEP)
            self.key = jax.jit(new_key, out_shardings=replicated(self.experiment.mesh))()
            self.programs = compile_programs(
                self.experiment,
                state,
                feed=self.feeder.example(),
                key=self.key,
                batch=next(iter(self.test)),
                counts={count for _, count in calls_from(self.experiment, self.start_step)},
            )

    def begin(self, state: TrainState, writers: Writers) -> None:
        """Takes note of the state before the first step, and of where rows go."""
        self.writers = writers
        self.pictures = Pictures(self.experiment, state, writers, self.session.clock)

    def take_steps(self, state: TrainState, feed: PyTree, count: int) -> tuple[TrainState, PyTree]:
        """Returns the state after so many steps, and their sums."""
        taken = self.programs.train[count](state, feed, self.key)
        self.pictures.write_batch()  # while the first step is computed
        return taken

    def end_row(
        self, step: int, state: TrainState, sums: list, seconds: float, *, save: bool
    ) -> TrainState:
        """Writes a row, evaluates and saves as is due; returns the state to go on with."""
        self.last_step = step
        row = self._train_row(step, state, self._finite(sums, step, state), seconds)
        evaluation = self._validate(step, state)
        metrics = evaluation and evaluation.metrics
        row |= {f"validation_{name}": value for name, value in (metrics or {}).items()}
        with self.session.saving.heeding_errors():
            self.writers.write(row)
        self.session.display.row(row, self.experiment.steps)
        self._save(step, state, metrics, due=save or checkpoint_is_due(self.experiment, step))
        return state

    def save_within_row(self, step: int, state: TrainState, sums: list) -> None:
        """Saves a run that stops between two rows; the next is written when it goes on."""
        self.sums += self._finite(sums, step, state)
        sums = [{name: np.asarray(value).item() for name, value in s.items()} for s in self.sums]
        self.session.saving.save(step, state, {"sums": sums})

    def is_over(self, step: int) -> bool:
        """Tells whether patience has run out: by the best checkpoint, so resuming agrees."""
        patience = self.experiment.config.train.patience * evaluations_every(self.experiment)
        best = self.session.saving.best
        return bool(patience and best and step - best[0] >= patience)

    def _finite(self, sums: list[dict], step: int, state: TrainState) -> list[dict]:
        allowed = self.experiment.config.train.skip_nonfinite
        skipped = int(state.skipped)
        return finite(sums, step=step, params=state.params, skipped=skipped, allowed=allowed)

    def _train_row(self, step: int, state: TrainState, sums: list[dict], seconds: float) -> Row:
        images = len(sums) * self.experiment.config.data.batch_size
        totals, self.sums = merge([*self.sums, *sums]), []
        return {
            **position(self.experiment, step),
            **train_means(self.experiment, step - int(state.skipped), totals),
            "images_per_second": images / seconds,
        }

    def _validate(self, step: int, state: TrainState) -> Evaluation | None:
        if not self.validation or not evaluation_is_due(self.experiment, step):
            return None
        split = self.experiment.dataset.validation
        evaluation = self._evaluate(self.programs.evaluate, state, self.validation, len(split))
        self.pictures.write(step, state, evaluation)
        return evaluation

    def _save(self, step: int, state: TrainState, metrics: dict | None, *, due: bool) -> None:
        saving = self.session.saving
        if due or metrics:
            saving.settle()  # what is best depends on whether it was saved
        improved = metrics is not None and saving.improves(step, metrics)
        if due or improved:
            # Metrics go with improvements alone, so that the best on disk is the best here.
            saving.save(step, state, metrics if improved else None)

    def _evaluate(
        self, step: Callable, state: TrainState, batches: Iterable, examples: int
    ) -> Evaluation:
        with self.session.clock.stage("evaluate"):
            variables: PyTree = model_variables(state)
            return evaluate(step, variables, batches, examples=examples)

    def close(self) -> None:
        """Ends what feeds it: threads and processes, where its images are streamed."""
        self.feeder.close()

    def result(self, state: TrainState) -> dict[str, Any]:
        """Returns what the finished run leaves: the test metrics, costs and provenance."""
        experiment, session = self.experiment, self.session
        session.saving.settle()
        best = session.saving.best
        if experiment.config.train.patience and best:
            state = session.saving.best_state(abstract_state(experiment))
        examples = len(experiment.dataset.test)
        test = self._evaluate(self.programs.test, state, self.test, examples)
        result = {
            **outcome(
                experiment,
                experiment.config,
                parameters=self.parameters,
                resumed_from=self.start_step,
                steps=self.last_step,
                skipped=int(state.skipped),
                best=best,
            ),
            "stopped_early": self.last_step < experiment.steps,
            **{f"test_{name}": value for name, value in test.metrics.items()},
            **costs(experiment, session.clock.seconds(), self.last_step - self.start_step),
        }
        tested = {"test": test, "step": int(state.step), "clock": session.clock}
        return reported(result, session.workdir, experiment, **tested, say=session.display.say)
