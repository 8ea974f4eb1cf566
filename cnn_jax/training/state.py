"""The train state: arrays only, so that saving it saves everything there is to resume."""

import enum
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key, PyTree


class TrainState(flax.struct.PyTreeNode):
    """What a step turns into the next; functions reach the step by closure, never through it."""

    step: PyTree  # int32 (): steps taken so far; jax also builds states of shapes, not of arrays
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    skipped: PyTree  # int32 (): steps that changed nothing, for gradients that were not finite
    ema: PyTree | None  # moving average of the parameters, if the run keeps one


class Purpose(enum.IntEnum):
    """What a random key is for. Numbers are part of a run's identity: never change one."""

    INIT = 0
    STEP = 1


def key_for(seed: int, purpose: Purpose) -> Key[Array, ""]:
    """Returns the key of one purpose of a run; steps fold their number into it."""
    return jax.random.fold_in(jax.random.key(seed), purpose)


def create_train_state(
    variables: dict[str, Any], tx: optax.GradientTransformation, *, ema: bool = False
) -> TrainState:
    """Returns the state before the first step for freshly initialised variables."""
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(params),
        skipped=jnp.zeros((), jnp.int32),
        ema=jax.tree.map(jnp.copy, params) if ema else None,
    )


def model_variables(state: TrainState) -> dict[str, PyTree]:
    """Returns what `model.apply` takes to evaluate a state: averaged weights if it has them."""
    params = state.params if state.ema is None else state.ema
    return {"params": params, "batch_stats": state.batch_stats}
