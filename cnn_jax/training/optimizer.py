"""Optimizers and learning-rate schedules from the config, each a line over optax."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import PyTree

from cnn_jax.config import Optim, is_on
from cnn_jax.training.parameter_paths import freeze, multiply_rates

Schedule = Callable[[jax.typing.ArrayLike], jax.typing.ArrayLike]


def make_schedule(optim: Optim, steps: int) -> Schedule:
    """Returns learning_rate(step) over a run of `steps` steps, after a linear warm-up if any."""
    peak = optim.learning_rate
    warmup = round(optim.warmup * steps)
    rest = max(1, steps - warmup)
    schedule = {
        "constant": lambda: optax.constant_schedule(peak),
        "plateau": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, 0.0, rest),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest),
        "one_cycle": lambda: optax.cosine_onecycle_schedule(rest, peak),
        "step": lambda: optax.piecewise_constant_schedule(peak, _drops(optim, steps, warmup)),
    }[optim.schedule]()
    if not warmup:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), schedule], [warmup])


def _drops(optim: Optim, steps: int, warmup: int) -> dict[int, float]:
    drops: dict[int, float] = {}
    for at in optim.milestones:  # in a short run two of them may fall on one step
        step = round(at * steps) - warmup
        drops[step] = drops.get(step, 1.0) * optim.decay_factor
    return drops


def make_optimizer(
    optim: Optim, schedule: Schedule, *, steps_per_epoch: int = 1
) -> optax.GradientTransformationExtraArgs:
    """Returns the gradient transformation that the config names.

    Weight decay skips biases and the parameters of norms. It is decoupled from the gradient in
    adamw, lamb and muon, and added to it (L2 regularisation) in the others. Parameters whose path
    matches `optim.freeze` stay as they are, and those that `optim.rates` finds have a rate of their
    own, a multiple of all that moves them, decoupled decay too. With the schedule "plateau",
    `update` takes the training loss as `value`, and the rate drops when its mean over an epoch
    stops falling. It is the training loss, and not the validation's as Keras would have it, since
    it is at hand inside the compiled step, for every member of a population, and without a
    validation split.
    """
    optimizer = _OPTIMIZERS[optim.name](optim, schedule)
    clip = [optax.clip_by_global_norm(optim.clip_norm)] if is_on(optim.clip_norm) else []
    coupled = is_on(optim.weight_decay) and optim.name not in _DECAY_BY_THEMSELVES
    decay = [optax.add_decayed_weights(optim.weight_decay, decay_mask)] if coupled else []
    last = [_plateau(optim, steps_per_epoch)] if optim.schedule == "plateau" else []
    last += [multiply_rates(optim.rates)] * bool(optim.rates) + [hold_norms()] * optim.hold_norms
    tx = optax.chain(*clip, *decay, optimizer, *last)
    tx = freeze(tx, optim.freeze) if optim.freeze else tx
    return optax.with_extra_args_support(tx)


def unread(optim: Optim) -> list[str]:
    """Returns the fields that are set and that this optimizer with this schedule does not read.

    >>> from cnn_jax.training.optimizer import unread
    >>> unread(Optim(name="adam", momentum=0.9, beta1=0.8, milestones=(0.5,)))
    ['momentum', 'milestones']
    """
    read = set()

    class Watched(Optim):
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

    watched = Watched(**vars(optim))
    make_optimizer(watched, make_schedule(watched, steps=1))
    changed = (name for name, value in vars(optim).items() if value != getattr(Optim, name))
    return [name for name in changed if name not in read]


def _plateau(optim: Optim, steps_per_epoch: int) -> optax.GradientTransformationExtraArgs:
    return optax.contrib.reduce_on_plateau(
        factor=optim.decay_factor,
        patience=optim.plateau_patience,
        accumulation_size=steps_per_epoch,
    )


def rate_scale(opt_state: PyTree) -> jax.Array | None:
    """Returns by what the schedule "plateau" multiplies the rate; None with another schedule."""
    kind = optax.contrib.ReduceLROnPlateauState
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kind))
    return next((node.scale for node in nodes if isinstance(node, kind)), None)


def _sgd(o: Optim, schedule: Schedule) -> optax.GradientTransformation:
    return optax.sgd(schedule, **_momentum(o, 0.9))


def _rmsprop(o: Optim, schedule: Schedule) -> optax.GradientTransformation:
    return optax.rmsprop(
        schedule,
        decay=o.decay_rate,
        eps=_or(o.epsilon, 1e-7),
        **_momentum(o, 0.0),
    )


def _lars(o: Optim, schedule: Schedule) -> optax.GradientTransformation:
    momentum = _or(o.momentum, 0.9)
    return optax.lars(
        schedule,
        weight_decay=o.weight_decay,
        weight_decay_mask=decay_mask,
        trust_ratio_mask=decay_mask,
        momentum=momentum,
        nesterov=is_on(momentum) and o.nesterov,
    )


def _muon(o: Optim, schedule: Schedule) -> optax.GradientTransformation:
    return optax.contrib.muon(
        schedule,
        beta=_or(o.momentum, 0.95),
        weight_decay=o.weight_decay,
        weight_decay_mask=decay_mask,
        adam_b1=o.beta1,
        adam_b2=o.beta2,
        muon_weight_dimension_numbers=matrix_axes,
    )


def _muon_sgd(o: Optim, schedule: Schedule) -> optax.GradientTransformation:
    """Muon of three iterations for the convolutions, SGD with Nesterov momentum for the rest.

    The optimizer of the CIFAR-10 recipe airbench94_muon, see `models.airbench`.
    """
    beta, momentum = _or(o.momentum, 0.6), _or(o.momentum, 0.85)
    muon = optax.contrib.scale_by_muon(ns_steps=3, beta=beta, weight_dimension_numbers=matrix_axes)
    optimizers = {
        "muon": optax.chain(muon, optax.scale_by_learning_rate(schedule)),
        "sgd": optax.chain(
            optax.add_decayed_weights(o.weight_decay, decay_mask),
            optax.sgd(schedule, momentum=momentum, nesterov=True),
        ),
    }
    return optax.partition(
        optimizers, lambda params: jax.tree.map(lambda p: "muon" if p.ndim > 2 else "sgd", params)
    )


_OPTIMIZERS: dict[str, Callable[[Optim, Schedule], optax.GradientTransformation]] = {
    "sgd": _sgd,
    "rmsprop": _rmsprop,
    "adam": lambda o, schedule: optax.adam(schedule, **_betas(o)),
    "adamw": lambda o, schedule: optax.adamw(schedule, **_betas(o), **_decoupled(o)),
    "nadam": lambda o, schedule: optax.nadam(schedule, **_betas(o)),
    "lamb": lambda o, schedule: optax.lamb(schedule, **_betas(o, 1e-6), **_decoupled(o)),
    "lars": _lars,
    "muon": _muon,
    "muon_sgd": _muon_sgd,
}
_DECAY_BY_THEMSELVES = ("adamw", "lamb", "lars", "muon", "muon_sgd")


def _or(value: ArrayLike | None, default: float) -> ArrayLike:
    return default if value is None else value


def _momentum(o: Optim, default: float) -> dict[str, Any]:
    """Returns the options; a momentum of None is no trace of gradients, and no `nesterov`."""
    momentum = _or(o.momentum, default)
    return {"momentum": momentum, "nesterov": o.nesterov} if is_on(momentum) else {"momentum": None}


def _betas(o: Optim, epsilon: float = 1e-8) -> dict[str, ArrayLike]:
    return {"b1": o.beta1, "b2": o.beta2, "eps": _or(o.epsilon, epsilon)}


def _decoupled(o: Optim) -> dict[str, Any]:
    return {"weight_decay": o.weight_decay, "mask": decay_mask}


def decay_mask(params: PyTree) -> PyTree:
    """Returns True for kernels, False for biases and the parameters of norms (one axis at most)."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def matrix_axes(params: PyTree) -> PyTree:
    """Returns how Muon sees each kernel as a matrix: all axes but the last to the last.

    A convolution's window and input channels are its rows, so it is orthogonalised as a whole;
    biases and norms get None, which leaves them to Adam.
    """

    def axes(p: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        if p.ndim < 2:
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1)

    return jax.tree.map(axes, params)


def hold_norms() -> optax.GradientTransformation:
    """Returns what lets each step of a convolution's kernel start from the norm √C_out.

    Batch norm behind it makes the norm free to choose, and with it held the learning rate says by
    how much of it the kernel turns.
    """

    def hold(update: jax.Array, p: jax.Array) -> jax.Array:
        if p.ndim <= 2:
            return update
        return p * (math.sqrt(p.shape[-1]) / jnp.linalg.norm(p.ravel()) - 1) + update

    return optax.stateless(lambda updates, params: jax.tree.map(hold, updates, params))
