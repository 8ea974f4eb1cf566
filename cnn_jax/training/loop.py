"""A run from start to end: restore, train, evaluate, save, and leave a result."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from cnn_jax.config import Config, flatten, placement_fields
from cnn_jax.config_checks import validate
from cnn_jax.data.augment import AugmentFn
from cnn_jax.errors import writing
from cnn_jax.training.cadence import calls_from, row_is_due
from cnn_jax.training.checkpoint import Checkpoints
from cnn_jax.training.clock import Clock
from cnn_jax.training.interruption import StopRequest, stop_on_signals
from cnn_jax.training.losses import LossFn
from cnn_jax.training.optimizer import unread
from cnn_jax.training.ownership import own_directory
from cnn_jax.training.processes import Agreement, check_alike, is_first
from cnn_jax.training.programs import each_step
from cnn_jax.training.progress import Display
from cnn_jax.training.records import train_seconds
from cnn_jax.training.run_directory import CONFIG, RESULT, check_run, read_json
from cnn_jax.training.saving import Saving
from cnn_jax.training.session import Run, Session
from cnn_jax.training.setup import Experiment, build_experiment, check_batch, check_new_run
from cnn_jax.training.single_run import SingleRun
from cnn_jax.training.stall import ended_if_stalled
from cnn_jax.training.writers import open_writers
from cnn_jax.whole_files import write_json


def train_and_evaluate(
    config: Config,
    workdir: Path,
    *,
    clock: Clock | None = None,
    loss_fn: LossFn | None = None,
    augment_fn: AugmentFn | None = None,
    run_type: type[Run] = SingleRun,
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
        what it adds to the batch reaches `loss_fn`. `pixels` are the images before normalisation.
      run_type: what is taken through the stages of a run.

    Raises:
      InputError: the config, the data or the run directory is wrong; nothing was changed.
      RunError: the run can't go on: a gradient is not finite, or a checkpoint can't be written.
      Stopped: SIGTERM, SIGINT or the time limit came; a checkpoint is saved.
    """
    clock = clock or Clock()
    validate(config)
    check_run(workdir, config)
    with Display(quiet=not is_first()) as display:
        if finished := read_json(workdir / RESULT):
            display.say(f"{workdir} holds a finished run; give another --workdir for a new one")
            return finished
        with clock.stage("data"):
            experiment = build_experiment(config, loss_fn=loss_fn, augment_fn=augment_fn)
        check_batch(experiment)
        run_type.check(experiment)
        if not (workdir / CONFIG).exists():
            check_new_run(experiment)
        if unused := ", ".join(f"optim.{name}" for name in unread(config.optim)):
            kind = f"optim.name={config.optim.name} optim.schedule={config.optim.schedule}"
            display.say(f"without effect with {kind}: {unused}")
        result = _run(run_type, experiment, workdir, display, clock)
        accuracy = f"test accuracy {result['test_accuracy']:.2%}"
        display.say(f"{accuracy} on {result['test_examples']} examples; see {workdir / RESULT}")
    return result


def _run(
    run_type: type[Run], experiment: Experiment, workdir: Path, display: Display, clock: Clock
) -> dict[str, Any]:
    """Returns the result of a run that nothing speaks against, having written it.

    Raises:
      InputError: one of several processes was started otherwise; nothing was written.
    """
    first, train = is_first(), experiment.config.train
    check_alike(_common(experiment.config, workdir))
    with (
        stop_on_signals() as request,
        own_directory(workdir, experiment) if first else contextlib.nullcontext(),
        Checkpoints(workdir / "checkpoints", warn=display.say) as checkpoints,
        ended_if_stalled(train.stall_seconds) as note_step,
    ):
        saving = Saving(checkpoints, train, clock=clock, say=display.say)
        session = Session(workdir, saving, display, clock)
        run = run_type(experiment, session)
        state = run.start()
        stop_reason = _stop_check(experiment, clock, request)
        state = _train(run, state, session, stop_reason, note_step)
        result = run.result(state)
        if first:
            with writing(workdir / RESULT):
                write_json(workdir / RESULT, result)
    return result


def _common(config: Config, workdir: Path) -> dict[str, Any]:
    """Returns what all processes of a run must be started with; each may have its own workers."""
    own = placement_fields(config) & {"data.dir", "data.workers"}
    fields = {name: value for name, value in flatten(config).items() if name not in own}
    return {"--workdir": str(workdir.absolute()), **fields}


def _stop_check(
    experiment: Experiment, clock: Clock, request: StopRequest
) -> Callable[[], str | None]:
    """Returns what tells, asked once a step, for which reason all processes stop, if they do."""
    limit = experiment.config.train.max_seconds
    too_long = f"train.max_seconds={limit:g}"
    agreed = Agreement(experiment.mesh, ("SIGTERM", "SIGINT", too_long))

    def stop_reason() -> str | None:
        late = limit and sum(clock.seconds().values()) > limit
        return agreed(too_long if late else request.reason)

    return stop_reason


def _train(
    run: Run,
    state: PyTree,
    session: Session,
    stop_reason: Callable[[], str | None],
    note_step: Callable[[int], None],
) -> PyTree:
    """Returns the state after the last step; the run writes rows and checkpoints on the way."""
    experiment, clock, display = run.experiment, session.clock, session.display
    pending: list[tuple[PyTree, int]] = []  # sums of the steps since the last row, by call
    display.begin(experiment.steps, run.start_step)
    with (
        contextlib.closing(run),
        open_writers(session.workdir, run.start_step) as writers,
        clock.stage("train"),
    ):
        run.begin(state, writers)
        since = train_seconds(clock.seconds())
        for step, count in calls_from(experiment, run.start_step):
            if run.is_over(step - count):
                break
            state, sums = run.take_steps(state, _feed(run, step - count, pending, clock), count)
            pending.append((sums, count))
            display.advance(step)
            note_step(step)
            stop = stop_reason()
            due = row_is_due(experiment, step)
            if stop or due:
                sums = [s for each in jax.device_get(pending) for s in each_step(*each)]
                seconds = train_seconds(clock.seconds()) - since
                if due:
                    state = run.end_row(step, state, sums, seconds, save=stop is not None)
                else:
                    run.save_within_row(step, state, sums)
                pending, since = [], train_seconds(clock.seconds())
            if stop:
                session.saving.stop(stop, step, experiment.steps, session.workdir)
    return state


def _feed(run: Run, taken: int, pending: list, clock: Clock) -> PyTree:
    """Returns what the next step takes its batch from, having waited for it if need be."""
    run.feeder.hold_back(pending)
    with clock.stage("input"):
        return run.feeder(taken)
