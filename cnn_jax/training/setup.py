"""From a config to everything a run needs, before any state exists."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import PyTree

from cnn_jax.config import Config, is_population, steps_per_epoch, total_steps
from cnn_jax.config_checks import check_effect, validate
from cnn_jax.data.augment import AugmentFn, check_augment
from cnn_jax.data.datasets import load_dataset
from cnn_jax.data.normalization import Normalization, fit_normalization, normalize, to_unit
from cnn_jax.data.spec import Dataset
from cnn_jax.errors import InputError
from cnn_jax.models.registry import (
    initialize,
    parameters_from_images,
    variable_shapes,
)
from cnn_jax.models.rematerialization import blocks_of
from cnn_jax.placement import place, replicated
from cnn_jax.training.checkpoint import abstract
from cnn_jax.training.losses import LossFn
from cnn_jax.training.network import build_network
from cnn_jax.training.objective import make_loss
from cnn_jax.training.optimizer import Schedule, make_optimizer, make_schedule
from cnn_jax.training.parallel import (
    device_memory,
    make_mesh,
    once_options,
)
from cnn_jax.training.parameter_paths import check_paths
from cnn_jax.training.population.members import member_configs
from cnn_jax.training.state import Purpose, TrainState, create_train_state, key_for
from cnn_jax.training.transfer import Transfer, read_shapes, read_variables, transfer


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run's fixed parts; the state that changes is kept apart."""

    config: Config
    dataset: Dataset
    normalization: Normalization
    mesh: Mesh
    model: nn.Module
    tx: optax.GradientTransformation
    learning_rate: Schedule
    loss_fn: LossFn
    study_loss_fn: LossFn | None  # instead of the config's
    augment_fn: AugmentFn  # of the study; after the config's augmentation and normalisation
    steps: int


_IMAGES_LOOKED_AT = 5000  # by networks whose first parameters come from images


def build_experiment(
    config: Config, *, loss_fn: LossFn | None = None, augment_fn: AugmentFn | None = None
) -> Experiment:
    """Returns the parts of a run; reads the data, allocates nothing on the devices.

    `loss_fn` and `augment_fn` are a study's own, see `training.loop.train_and_evaluate`.

    Raises:
      InputError: the config, the dataset and the devices don't fit together.
    """
    validate(config)
    mesh = make_mesh(config.devices)
    data = config.data
    # The members of a population share what is held on the device.
    feed = "resident" if is_population(config) else data.feed
    memory = device_memory(mesh)
    room = (min(memory) if config.parallel == "pmap" else sum(memory)) if memory else None
    dataset = load_dataset(dataclasses.replace(data, feed=feed), memory=room)
    parts = _parts(config, dataset, loss_fn)
    shapes = variable_shapes(parts["model"], dataset.spec.image_shape)
    check_paths(config.optim, shapes["params"])
    if config.train.remat and not blocks_of(parts["model"], shapes, dataset.spec.image_shape):
        raise InputError(f"train.remat is for residual blocks; {config.model.name} has none")
    check_augment(data.augment, dataset.spec.image_shape)
    normalization = fit_normalization(dataset.train.images, data.normalization)
    return Experiment(
        config=config,
        dataset=dataset,
        normalization=normalization,
        mesh=mesh,
        study_loss_fn=loss_fn,
        augment_fn=augment_fn or (lambda key, batch: batch),
        steps=total_steps(config, len(dataset.train)),
        **parts,
    )


def with_config(experiment: Experiment, config: Config) -> Experiment:
    """Returns the experiment as another config has it that differs in rates and strengths alone.

    These may be traced scalars: inside a traced function this gives each member of a population
    its own.
    """
    parts = _parts(config, experiment.dataset, experiment.study_loss_fn)
    return dataclasses.replace(experiment, config=config, **parts)


def _parts(config: Config, dataset: Dataset, loss_fn: LossFn | None) -> dict[str, Any]:
    """Returns the parts of an experiment that follow from the rates in its config."""
    examples = len(dataset.train)
    schedule = make_schedule(config.optim, total_steps(config, examples))
    per_epoch = steps_per_epoch(config, examples)
    return {
        "model": build_network(config, dataset.spec),
        "tx": make_optimizer(config.optim, schedule, steps_per_epoch=per_epoch),
        "learning_rate": schedule,
        "loss_fn": loss_fn or make_loss(config.train, dataset.spec, dataset.train.labels),
    }


def initial_state(experiment: Experiment, source: PyTree | None = None) -> TrainState:
    """Returns the state before the first step, on the devices.

    It is a function of the seed alone, or of that and of the variables to start from, `source`.
    """
    key = key_for(experiment.config.seed, Purpose.INIT)
    draw = jax.jit(partial(state_from, experiment), compiler_options=once_options())
    state = draw(key, source, computed_parameters(experiment))
    return place(state, replicated(experiment.mesh))


def state_from(
    experiment: Experiment,
    key: jax.Array,
    source: PyTree | None = None,
    computed: PyTree | None = None,
) -> TrainState:
    """Returns the state before the first step, drawn from a key or taken from `source`.

    `computed` is what `computed_parameters` gives: a part of the parameters that takes its place.
    """
    shape = experiment.dataset.spec.image_shape
    variables = initialize(key, model=experiment.model, image_shape=shape)
    params = dict(variables["params"])
    for layer, values in (computed or {}).items():
        params[layer] = {**params[layer], **values}
    variables = {**variables, "params": params}
    if source is not None:
        variables = transfer(variables, source).variables
    ema = experiment.config.train.ema_decay > 0
    return create_train_state(variables, experiment.tx, ema=ema)


def computed_parameters(experiment: Experiment) -> PyTree:
    """Returns the parameters that the network takes from training images; of most it is none."""
    from_images = parameters_from_images(experiment.model)
    if from_images is None:
        return {}
    images = jnp.asarray(experiment.dataset.train.images[:_IMAGES_LOOKED_AT])
    return from_images(normalize(to_unit(images), experiment.normalization))


def check_source(experiment: Experiment) -> Transfer:
    """Returns what the network would take over from the run `train.init_from`; reads no array.

    Raises:
      InputError: it is no run with a checkpoint, or of a network that differs beyond the head.
    """
    directory = experiment.config.train.init_from
    shapes = variable_shapes(experiment.model, experiment.dataset.spec.image_shape)
    return transfer(shapes, read_shapes(Path(directory)), name=f"train.init_from={directory}")


def source_variables(experiment: Experiment, *, say: Callable[[str], None]) -> PyTree | None:
    """Returns the variables that `train.init_from` names, if it does, and says what is taken."""
    directory = experiment.config.train.init_from
    if not directory:
        return None
    say(f"from the best weights of {directory}: {check_source(experiment)}")
    return read_variables(Path(directory), replicated(experiment.mesh))


def abstract_state(experiment: Experiment) -> TrainState:
    """Returns the shapes, types and placement of the state, to restore a checkpoint into."""
    key = key_for(experiment.config.seed, Purpose.INIT)
    shapes = jax.eval_shape(partial(state_from, experiment), key)
    return abstract(shapes, replicated(experiment.mesh))


def check_batch(experiment: Experiment) -> None:
    """Raises InputError if there are too few training examples for a batch."""
    data, examples = experiment.config.data, len(experiment.dataset.train)
    if data.batch_size > examples:
        raise InputError(
            f"data.batch_size is {data.batch_size}, more than the {examples} training examples of "
            f"{data.name}; take {examples} at most"
        )


def check_new_run(experiment: Experiment) -> None:
    """Raises InputError for what a run should not begin with: what would have no effect.

    These are fields of a population in a single run, changes of colour in gray images, statistics
    of batch norm in a network without, and what validation is to decide without a validation split.
    Weights to start from that don't fit or can't be read are told of too, and a run so long that
    the numbers of its examples leave 32 bits.
    """
    config = experiment.config
    drawn = experiment.steps * config.data.batch_size
    if experiment.dataset.feed == "resident" and drawn >= 2**31:
        raise InputError(
            f"the run draws {drawn:,} examples; from those held on the device it can be 2**31: set "
            "data.feed=streaming, or train for less"
        )
    gray = experiment.dataset.spec.image_shape[2] == 1
    for run in member_configs(config) if is_population(config) else [config]:
        check_effect(run)
        if run.data.augment.saturation and gray:
            raise InputError("data.augment.saturation needs colours; these images have 1 channel")
    shapes = variable_shapes(experiment.model, experiment.dataset.spec.image_shape)
    if config.train.batch_statistics == "ghost" and not shapes.get("batch_stats"):
        raise InputError(
            f"train.batch_statistics is ghost, but {config.model.name} has no batch norm here; "
            "unset it, or choose a network with batch norm"
        )
    source_variables(experiment, say=lambda line: None)  # whole, as the run is about to read it
    deciding = {
        "train.patience": config.train.patience,
        "population.halving": config.population.halving,
    }
    for name, value in deciding.items():
        if value and experiment.dataset.validation is None:
            raise InputError(
                f"{name} compares by the validation split, and there is none; set "
                "data.validation_fraction or data.validation_split"
            )
