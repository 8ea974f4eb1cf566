"""One training step and one evaluation step, as pure functions of arrays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, PyTree

from cnn_jax.models.modules import batch_norm_over
from cnn_jax.models.registry import seen_part
from cnn_jax.models.rematerialization import rematerialized
from cnn_jax.training.losses import LossFn
from cnn_jax.training.metrics import Sums, SumsFn, classification_sums
from cnn_jax.training.optimizer import rate_scale
from cnn_jax.training.state import TrainState

# `image` (N, H, W, C), uint8 as stored or floats, and `label`: classes (N,), or shares of each or
# zeros and ones (N, classes). In evaluation also `mask` (N,), False for what fills the last batch.
Batch = dict[str, jax.Array]


def make_train_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    loss_fn: LossFn,
    augment_fn: Callable[[jax.Array, Batch], Batch],
    *,
    dtype: str = "float32",
    accumulate: int = 1,
    ema_decay: float = 0.0,
    skip_nonfinite: bool = False,
    axis_name: str | None = None,
    batch_norm: dict[str, Any] | None = None,
    sums_fn: SumsFn = classification_sums,
    remat: bool = False,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Sums]]:
    """Returns train_step(state, batch, key) -> (state, sums); jit it once, donating the state.

    The same key serves every step: the step folds its own number into it, so there is no random
    state to carry or to save.

    Args:
      model: its `apply` takes images and `train`; if it has a method `seen`, images are cut, see
        `models.registry.seen_part`.
      tx: the optimizer.
      loss_fn: loss_fn(logits, batch) gives one value per example; the batch is as `augment_fn`
        leaves it.
      augment_fn: augment_fn(key, batch) turns the raw batch, of uint8 images as a rule, into what
        the network takes.
      dtype: type of the computation; parameters, statistics and optimizer state keep theirs.
      accumulate: parts the batch is split into, one after the other through the network; the
        gradient is that of the whole batch, batch statistics are those of each part.
      ema_decay: how much of the moving average of the weights stays at each step; 0: none is kept.
      skip_nonfinite: leave the state as it is, but for its counters, if a gradient is not finite;
        the step's sums are zeros.
      axis_name: the mapped axis over which the batch is spread, each device with an equal share
        and random numbers of its own; results are those of the whole batch on every one.
      batch_norm: over which examples it averages, options of `models.modules.batch_norm_over`.
      sums_fn: sums_fn(logits, labels, losses) gives the sums of the metrics.
      remat: see `models.rematerialization.rematerialized`.

    Besides the sums there is `nonfinite`, the first parameter whose gradient is not finite, counted
    as in `jax.tree.leaves(params)`; -1 where all are.

    >>> import jax, optax
    >>> import jax.numpy as jnp
    >>> from cnn_jax.models.registry import build_model, initialize
    >>> from cnn_jax.training.losses import cross_entropy, of_labels
    >>> from cnn_jax.training.state import create_train_state
    >>> from cnn_jax.training.step import make_train_step
    >>> model, tx = build_model("fashion_convnet", 10), optax.sgd(0.1)
    >>> variables = initialize(jax.random.key(0), model=model, image_shape=(28, 28, 1))
    >>> train_step = make_train_step(model, tx, of_labels(cross_entropy), lambda key, batch: batch)
    >>> step, state = jax.jit(train_step, donate_argnums=0), create_train_state(variables, tx)
    >>> batch = {"image": jnp.ones((4, 28, 28, 1)), "label": jnp.arange(4)}
    >>> state, sums = step(state, batch, jax.random.key(1))
    >>> int(state.step), int(sums["examples"])
    (1, 4)
    """

    def gradient(params: PyTree, batch_stats: PyTree, batch: Batch, key: jax.Array) -> tuple:
        def objective(params: PyTree) -> tuple[jax.Array, tuple]:
            with batch_norm_over(**batch_norm or {}), rematerialized(remat):
                logits, updated = model.apply(
                    {"params": params, "batch_stats": batch_stats},
                    seen_part(model, batch["image"]).astype(dtype),
                    train=True,
                    mutable=["batch_stats"],
                    rngs={"dropout": key},
                )
            losses = loss_fn(logits, batch)
            sums = sums_fn(logits, batch["label"], losses)
            return losses.mean(), (sums, updated.get("batch_stats", {}))

        return jax.grad(objective, has_aux=True)(params)

    def train_step(state: TrainState, batch: Batch, key: Key[Array, ""]) -> tuple[TrainState, Sums]:
        key = jax.random.fold_in(key, state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        augment_key, dropout_key = jax.random.split(key)
        batch = augment_fn(augment_key, batch)
        grads, (sums, batch_stats) = accumulated(gradient, accumulate)(
            state.params, state.batch_stats, batch, dropout_key
        )
        if axis_name is not None:
            grads, batch_stats = jax.lax.pmean((grads, batch_stats), axis_name)
            sums = jax.lax.psum(sums, axis_name)
        loss = sums["loss"] / sums["examples"].astype(sums["loss"].dtype)
        new = updated_state(state, grads, batch_stats, loss, tx=tx, ema_decay=ema_decay)
        bad = first_nonfinite(grads)
        if skip_nonfinite:
            same = state.replace(step=state.step + 1, skipped=state.skipped + 1)
            new = jax.tree.map(lambda old, new: jnp.where(bad >= 0, old, new), same, new)
        sums |= {"grad_norm": optax.tree.norm(grads), "steps": jnp.ones((), jnp.int32)}
        if (scale := rate_scale(new.opt_state)) is not None:
            sums["rate_scale"] = scale
        if skip_nonfinite:  # a step that is left out counts in no mean
            sums = {name: jnp.where(bad >= 0, 0, total) for name, total in sums.items()}
        return new, sums | {"nonfinite": bad}

    return train_step


def updated_state(
    state: TrainState,
    grads: PyTree,
    batch_stats: PyTree,
    loss: Float[Array, ""],
    *,
    tx: optax.GradientTransformation,
    ema_decay: float = 0.0,
) -> TrainState:
    """Returns the state after one update by the gradients, its moving average moved along.

    >>> import jax.numpy as jnp, optax
    >>> from cnn_jax.training.state import create_train_state
    >>> from cnn_jax.training.step import updated_state
    >>> params, tx = {"bias": jnp.ones(1)}, optax.sgd(0.1)
    >>> state = create_train_state({"params": params}, tx)
    >>> new = updated_state(state, params, {}, jnp.float32(1), tx=tx)
    >>> int(new.step), round(float(new.params["bias"][0]), 3)
    (1, 0.9)
    """
    updates, opt_state = tx.update(grads, state.opt_state, state.params, value=loss)
    params = optax.apply_updates(state.params, updates)
    ema = optax.incremental_update(params, state.ema, 1 - ema_decay) if ema_decay else None
    return TrainState(state.step + 1, params, batch_stats, opt_state, state.skipped, ema)


def first_nonfinite(tree: PyTree) -> Int[Array, ""]:
    """Returns the index of the first leaf that holds an infinity or a NaN, -1 if none does.

    >>> first_nonfinite([jnp.ones(2), jnp.array([1.0, jnp.nan])]).item()
    1
    """
    bad = jnp.stack([~jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)])
    return jnp.where(bad.any(), jnp.argmax(bad), -1).astype(jnp.int32)


def accumulated(gradient: Callable, parts: int) -> Callable:
    """Returns `gradient` taken part by part: the mean gradient, the last statistics, all sums.

    Part i holds examples i, i + parts, ...: the batch's leading axis may be spread over devices,
    and each device keeps its own examples this way. ValueError if they don't divide the batch.
    """
    if parts == 1:
        return gradient

    def gradient_of_parts(
        params: PyTree, batch_stats: PyTree, batch: Batch, key: jax.Array
    ) -> tuple:
        def add(carry: tuple, part: tuple) -> tuple:
            batch_stats, total = carry
            grads, (sums, batch_stats) = gradient(params, batch_stats, *part)
            return (batch_stats, jax.tree.map(jnp.add, total, (grads, sums))), None

        if (size := len(jax.tree.leaves(batch)[0])) % parts:
            raise ValueError(f"a batch of {size} cannot be split into {parts} equal parts")
        split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
        keys = jax.random.split(key, parts)
        first = jax.tree.map(lambda x: x[0], (split, keys))
        shapes = jax.eval_shape(gradient, params, batch_stats, *first)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shapes[0], shapes[1][0]))
        (batch_stats, (grads, sums)), _ = jax.lax.scan(add, (batch_stats, zeros), (split, keys))
        return jax.tree.map(lambda g: g / parts, grads), (sums, batch_stats)

    return gradient_of_parts


def mean_of_views(
    logits: Float[Array, "views_n classes"], weights: tuple[float, ...]
) -> Float[Array, "n classes"]:
    """Returns the weighted mean of each example's views, which come one after the other.

    >>> mean_of_views(jnp.array([[1.0], [3.0], [5.0], [5.0]]), (0.5, 0.5)).tolist()
    [[2.0], [5.0]]
    """
    if len(weights) == 1:
        return logits
    views = logits.reshape(-1, len(weights), logits.shape[-1])
    return jnp.einsum("nvc,v->nc", views, jnp.array(weights, logits.dtype))


def make_eval_step(
    model: nn.Module,
    loss_fn: LossFn,
    prepare_fn: Callable[[jax.Array], jax.Array],
    *,
    dtype: str = "float32",
    axis_name: str | None = None,
    sums_fn: SumsFn = classification_sums,
    view_weights: tuple[float, ...] = (1.0,),
) -> Callable[[PyTree, Batch], tuple[Sums, jax.Array]]:
    """Returns eval_step(variables, batch) -> (sums, logits); examples masked out count nowhere.

    `prepare_fn(images)` turns raw images into what the network takes, without randomness: for each
    image as many views, one after the other, as there are weights for the mean of their logits.
    With `axis_name` the batch is spread over that mapped axis; sums and logits are those of all.
    """
    logits_fn = make_logits_fn(model, prepare_fn, dtype=dtype, view_weights=view_weights)

    def eval_step(variables: PyTree, batch: Batch) -> tuple[Sums, jax.Array]:
        logits = logits_fn(variables, batch["image"])
        losses = loss_fn(logits, batch)
        sums = sums_fn(logits, batch["label"], losses, batch["mask"])
        if axis_name is not None:
            sums = jax.lax.psum(sums, axis_name)
            logits = jax.lax.all_gather(logits, axis_name, tiled=True)
        return sums, logits

    return eval_step


def make_logits_fn(
    model: nn.Module,
    prepare_fn: Callable[[jax.Array], jax.Array],
    *,
    dtype: str = "float32",
    view_weights: tuple[float, ...] = (1.0,),
) -> Callable[[PyTree, jax.Array], jax.Array]:
    """Returns logits(variables, images), in float32, of raw images; see `make_eval_step`."""

    def logits(variables: PyTree, images: jax.Array) -> jax.Array:
        prepared = seen_part(model, prepare_fn(images)).astype(dtype)
        of_views = model.apply(variables, prepared, train=False).astype(jnp.float32)
        return mean_of_views(of_views, view_weights)

    return logits
