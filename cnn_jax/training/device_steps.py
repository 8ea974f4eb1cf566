"""The steps of an experiment as its devices take them: what lies between the data and `step.py`."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from cnn_jax.config import Config
from cnn_jax.data.augment import make_augment_fn
from cnn_jax.data.augment.views import view_weights, views_of
from cnn_jax.data.normalization import normalize, to_unit
from cnn_jax.data.resident import Feed, take_batch
from cnn_jax.training.objective import make_eval_loss, make_sums
from cnn_jax.training.parallel import AXIS, check_batch_size, own_share, shard_batch
from cnn_jax.training.setup import Experiment
from cnn_jax.training.state import TrainState
from cnn_jax.training.step import Batch, make_eval_step, make_train_step


def fed_train_step(experiment: Experiment) -> Callable:
    """Returns train_step(state, feed, key) for `config.parallel`, with which it is to be compiled.

    The feed is what `feeding.make_feeder` makes: a `Feed` that holds the split, of which the step
    gathers its batch, or, where examples are streamed, the batch itself.
    """
    config, normalization = experiment.config, experiment.normalization
    devices, batch_size = experiment.mesh.size, config.data.batch_size
    change = make_augment_fn(config.data.device_augment, experiment.dataset.spec.num_classes)

    def augment_fn(key: jax.Array, batch: Batch) -> Batch:
        key, study_key = jax.random.split(key)
        batch = change(key, {**batch, "image": to_unit(batch["image"])})
        pixels = batch["image"]
        batch = {**batch, "pixels": pixels, "image": normalize(pixels, normalization)}
        batch = experiment.augment_fn(study_key, batch)
        return {name: array for name, array in batch.items() if name != "pixels"}

    step = make_train_step(
        experiment.model,
        experiment.tx,
        experiment.loss_fn,
        augment_fn,
        dtype=config.train.dtype,
        accumulate=config.train.accumulate,
        ema_decay=config.train.ema_decay,
        skip_nonfinite=config.train.skip_nonfinite > 0,
        axis_name=_axis(config),
        batch_norm=_batch_norm(config, devices),
        sums_fn=make_sums(experiment.dataset.spec),
        remat=config.train.remat,
    )

    def jit_step(state: TrainState, feed: Feed | Batch, key: jax.Array) -> tuple:
        resident = isinstance(feed, Feed)
        batch = take_batch(feed, state.step, batch_size=batch_size) if resident else feed
        return step(state, shard_batch(batch, experiment.mesh), key)

    def pmap_step(state: TrainState, feed: Feed | Batch, key: jax.Array) -> tuple:
        if not isinstance(feed, Feed):
            return step(state, own_share(feed, experiment.mesh), key)
        share = state.step * devices + jax.lax.axis_index(AXIS)
        return step(state, take_batch(feed, share, batch_size=batch_size // devices), key)

    return pmap_step if config.parallel == "pmap" else jit_step


def check_shares(config: Config, mesh: Mesh) -> None:
    """Raises InputError unless the devices get equal shares of the batch, in parts if need be."""
    by_device = config.parallel == "pmap" or config.train.batch_statistics == "ghost"
    parts = config.train.accumulate if by_device else 1
    check_batch_size(config.data.batch_size, mesh, parts=parts)


def _axis(config: Config) -> str | None:
    """Returns the mapped axis; under jit there is none."""
    return AXIS if config.parallel == "pmap" else None


def _batch_norm(config: Config, devices: int) -> dict[str, Any]:
    """Returns over which examples batch norm averages: all of the batch or each device's share."""
    if config.train.batch_statistics == "ghost":
        return {"groups": 1 if config.parallel == "pmap" else devices}
    return {"axis_name": _axis(config)}


def sharded_eval_step(experiment: Experiment, *, test_views: bool = False) -> Callable:
    """Returns eval_step(variables, batch) over all devices.

    The loss is the config's without smoothing and class weights, whatever was trained with. With
    `test_views` the logits are the mean over the views that the config asks for.
    """
    normalization, mesh = experiment.normalization, experiment.mesh
    config, spec = experiment.config, experiment.dataset.spec

    data = config.data
    views = {
        "mirror": test_views and data.test_mirror,
        "shift": data.test_shift if test_views else 0,
    }

    def prepare_fn(images: jax.Array) -> jax.Array:
        seen = views_of(to_unit(images), **views, border=data.augment.border)
        return normalize(seen.reshape(-1, *images.shape[1:]), normalization)

    step = make_eval_step(
        experiment.model,
        make_eval_loss(config.train, spec),
        prepare_fn,
        dtype=config.train.dtype,
        axis_name=_axis(config),
        sums_fn=make_sums(spec),
        view_weights=view_weights(**views),
    )
    share = shard_batch if _axis(config) is None else own_share
    return lambda variables, batch: step(variables, share(batch, mesh))
