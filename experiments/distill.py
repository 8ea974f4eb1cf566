r"""Knowledge distillation: a network learns from a trained one's logits beside the labels.

    python -m experiments.train --config=lenet_digits --workdir=runs/teacher
    python -m experiments.distill --config=lenet_digits --teacher=runs/teacher \
        --config.model.width=0.5 [--temperature=4] [--weight=0.9] [--workdir=DIR]

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (arXiv 1503.02531). The loss is
(1 - weight) · cross-entropy + weight · T² · KL(teacher ‖ student), both at temperature T.

This is a study as others may be: what is new plugs in as `augment_fn` and `loss_fn`, all else is
that of any run. It puts its command into the config, `study`, so that no other goes on with its
runs. The teacher sees the very images that the student does, normalised by its own constants.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags

from cnn_jax.config import is_population
from cnn_jax.config_checks import validate
from cnn_jax.data.datasets import dataset_spec
from cnn_jax.data.normalization import normalize
from cnn_jax.errors import InputError
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.losses import cross_entropy
from cnn_jax.training.predictor import Predictor, load_predictor
from cnn_jax.training.run_directory import new_directory
from experiments import command_line

_CONFIG = command_line.define_config()
_TEACHER = flags.DEFINE_string("teacher", None, "the run directory of the trained network")
_TEMPERATURE = command_line.define_number(
    "temperature", 4.0, "T, of both softmaxes", least=1e-3, most=1e6
)
_WEIGHT = command_line.define_number("weight", 0.9, "of the teacher", most=1.0)
_WORKDIR = flags.DEFINE_string("workdir", None, "run directory; default: a new one under runs/")


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    command_line.refuse_arguments(argv)
    config = command_line.read_config(_CONFIG)
    if not _TEACHER.value:
        raise InputError("--teacher=DIR is missing: the run directory of the trained network")
    validate(config)
    teacher = load_predictor(Path(_TEACHER.value), which="best")
    if teacher.spec != dataset_spec(config.data):
        raise InputError(f"the run {_TEACHER.value} is of other images: they must be the student's")
    if teacher.sigmoids:
        raise InputError(
            f"the run {_TEACHER.value} was trained with train.loss=binary: the teacher has a "
            "sigmoid for each class, where distillation takes a softmax of all"
        )
    if config.train.loss != "cross_entropy" or is_population(config):
        raise InputError("distillation is of one run with train.loss=cross_entropy")
    if config.train.class_weights:
        raise InputError("distillation weighs no classes; leave train.class_weights out")
    # Both are part of the run's config, so that another teacher, loss or command is refused.
    config.study = "distill"
    loss = f"T={_TEMPERATURE.value:g}, weight {_WEIGHT.value:g}"
    config.name += f" distilled from {_TEACHER.value} step {teacher.step}, {loss}"
    workdir = Path(_WORKDIR.value or new_directory(Path("runs/distilled")))

    def loss_fn(logits: jax.Array, batch: dict) -> jax.Array:
        own = cross_entropy(logits, batch["label"], label_smoothing=config.train.label_smoothing)
        taught = divergence(batch["teacher"], logits, temperature=_TEMPERATURE.value)
        return (1 - _WEIGHT.value) * own + _WEIGHT.value * taught

    train_and_evaluate(config, workdir, loss_fn=loss_fn, augment_fn=with_logits_of(teacher))


def with_logits_of(teacher: Predictor) -> Callable[[jax.Array, dict], dict]:
    """Returns an augment_fn that adds a network's logits, of images normalised as it wants them."""
    variables = jax.device_get(teacher.variables)  # so that the step runs on whatever devices

    def augment_fn(key: jax.Array, batch: dict) -> dict:
        images = normalize(batch["pixels"], teacher.normalization)
        constants = jax.tree.map(jnp.asarray, variables)
        return {**batch, "teacher": teacher.model.apply(constants, images, train=False)}

    return augment_fn


def divergence(teacher: jax.Array, student: jax.Array, *, temperature: float) -> jax.Array:
    """Returns T² · KL(teacher ‖ student) of logits softened by T, one value per example."""
    q, p = (jax.nn.log_softmax(x.astype(jnp.float32) / temperature) for x in (teacher, student))
    return temperature**2 * jnp.sum(jnp.exp(q) * (q - p), axis=-1)


if __name__ == "__main__":
    command_line.run(main)
