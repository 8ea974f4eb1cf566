"""This project, as `experiments.train` runs it: its feed and the compiled step."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext

import jax

from cnn_jax.data.resident import EvalBatches
from cnn_jax.models.registry import count_parameters
from cnn_jax.placement import replicated
from cnn_jax.training.device_steps import fed_train_step, sharded_eval_step
from cnn_jax.training.feeding import feed_sharding, make_feeder
from cnn_jax.training.parallel import compile_step
from cnn_jax.training.setup import Experiment, build_experiment, initial_state
from cnn_jax.training.state import Purpose, key_for, model_variables
from experiments.contenders import jax_device
from experiments.contenders.task import Contender, Started, Task
from experiments.host_memory import keep_freed_memory


def build(task: Task) -> Contender:
    """Returns the contender with its split on the device, or with the names of its files."""
    keep_freed_memory()
    experiment = build_experiment(task.config)
    place = _place_for_inference if task.mode == "inference" else _place_for_training
    return jax_device.contender(place(experiment))


def _place_for_training(experiment: Experiment) -> Callable[[], Started]:
    config, mesh = experiment.config, experiment.mesh
    streamed = experiment.dataset.feed == "streaming"
    feeder = make_feeder(experiment, 0)
    example = feeder.example()
    feeder.close()

    def start() -> Started:
        state, taken = initial_state(experiment), 0
        key = jax.device_put(key_for(config.seed, Purpose.STEP), replicated(mesh))
        arguments = (state, example, key)
        step = compile_step(
            fed_train_step(experiment), arguments, mesh=mesh, way=config.parallel, donate=True
        )

        @contextmanager
        def reading() -> Iterator[None]:
            nonlocal feeder
            feeder = make_feeder(experiment, taken)
            with closing(feeder):
                yield

        def run(steps: int) -> int:
            nonlocal state, taken
            running = []
            for _ in range(steps):
                feeder.hold_back(running)
                state, sums = step(state, feeder(taken), key)
                running.append(sums)
                taken += 1
            jax.block_until_ready((state, sums))
            return steps

        parameters = count_parameters(state.params)
        return Started(run, parameters, reading=reading if streamed else nullcontext)

    return start


def _place_for_inference(experiment: Experiment) -> Callable[[], Started]:
    config, mesh = experiment.config, experiment.mesh
    size = config.data.batch_size
    batches = EvalBatches(
        experiment.dataset.train, batch_size=size, sharding=feed_sharding(experiment)
    )

    def start() -> Started:
        variables = model_variables(initial_state(experiment))
        example = (variables, next(iter(batches)))
        step = compile_step(sharded_eval_step(experiment), example, mesh=mesh, way=config.parallel)
        stream = iter(())

        def run(steps: int) -> int:
            nonlocal stream
            for _ in range(steps):
                batch = next(stream, None)
                if batch is None:
                    stream = iter(batches)
                    batch = next(stream)
                answers = step(variables, batch)
            jax.block_until_ready(answers)
            return steps

        return Started(run, count_parameters(variables["params"]))

    return start
