"""However members are computed together, each takes the steps of its run alone."""

import dataclasses

import jax
import numpy as np
import pytest

from cnn_jax.config import Augment, Optim, Population, flatten, with_fields
from cnn_jax.data.resident import Feeder, MembersFeeder
from cnn_jax.errors import RunError
from cnn_jax.placement import replicated
from cnn_jax.training.device_steps import fed_train_step
from cnn_jax.training.population.members import differing, member_configs
from cnn_jax.training.population.strategies import make_program, member_step, own_inputs
from cnn_jax.training.setup import build_experiment, initial_state, state_from, with_config
from cnn_jax.training.state import Purpose, key_for
from tests.training.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("optax_promotes")
STEPS = 3
CASES = {
    "sgd": (
        Optim(momentum=0.9, nesterov=True, clip_norm=1.0, schedule="one_cycle"),
        "optim.learning_rate=0.05,0.2; optim.momentum=0.9,0.5; optim.clip_norm=0.5,2;"
        "optim.weight_decay=0,0.1; model.dropout=0.2,0; data.augment.brightness=0,0.3",
    ),
    "adamw": (
        Optim(name="adamw", learning_rate=0.01, warmup=0.3, schedule="cosine"),
        "optim.weight_decay=0.1,0; optim.beta1=0.9,0.8; optim.beta2=0.999,0.9;"
        "train.label_smoothing=0,0.2",
    ),
    "rmsprop": (
        Optim(name="rmsprop", schedule="step", milestones=(0.2,)),
        "optim.learning_rate=0.001,0.01; optim.decay_rate=0.9,0.7; optim.epsilon=1e-7,1e-3",
    ),
}


def configs_of(optim, values):
    config = tiny_config()
    config.optim = optim
    config.data.augment = Augment(crop_padding=1, flip=True)
    config.population = Population(values=values, combine="zip")
    members = member_configs(config)
    return [dataclasses.replace(member, seed=i) for i, member in enumerate(members)]


@pytest.fixture(scope="module")
def experiment():
    return build_experiment(tiny_config())


def alone(experiment, config):
    """Returns the state and the last sums after a few steps of the run alone."""
    own = with_config(experiment, config)
    sharding = replicated(own.mesh)
    feeder = Feeder(own.dataset.train, seed=config.seed, batch_size=304, sharding=sharding)
    step, state = jax.jit(fed_train_step(own)), initial_state(own)
    for number in range(STEPS):
        state, sums = step(state, feeder(number), key_for(config.seed, Purpose.STEP))
    return state, sums


def together(experiment, configs, strategy, devices=1):
    """Returns for each member the state and the last sums after as many steps."""
    fields = differing(configs)
    on = {path: max(flatten(config)[path] for config in configs) for path in fields}
    pattern = with_config(experiment, with_fields(configs[0], on))
    program = make_program(strategy, len(configs), devices)
    seeds = [config.seed for config in configs]
    feeder = MembersFeeder(
        pattern.dataset.train, seeds=seeds, batch_size=304, sharding=replicated(program.mesh)
    )
    draw = jax.jit(lambda key: state_from(pattern, key))
    states = program.place([draw(key_for(seed, Purpose.INIT)) for seed in seeds])
    own = program.with_rows(program.place(own_inputs(configs, fields)), "order", feeder(0).order)
    shared = feeder(0)._replace(order=())
    step = program.compile(member_step(pattern), (states, own, shared), donate=True)
    for _ in range(STEPS):
        states, sums = step(states, own, shared)
    return list(zip(program.split(states), program.split(sums), strict=True))


def assert_alike(ours, expected):
    for one, other in zip(ours, expected, strict=True):
        (state, sums), (lone_state, lone_sums) = one, other
        leaves, lone_leaves = jax.tree.leaves(state), jax.tree.leaves(lone_state)
        for leaf, lone in zip(leaves, lone_leaves, strict=True):
            np.testing.assert_allclose(leaf, lone, rtol=1e-4, atol=1e-5)
        for name, value in lone_sums.items():
            np.testing.assert_allclose(sums[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_members_in_one_program_are_as_alone(experiment, case):
    configs = configs_of(*CASES[case])
    first, second = together(experiment, configs, "vmap")
    assert_alike([second], [alone(experiment, configs[1])])
    one, other = (jax.tree.leaves(state.params)[0] for state, _ in (first, second))
    assert not np.allclose(one, other)


@pytest.fixture(scope="module")
def four(experiment):
    """Two seeds with two rates each, and what becomes of them in one program."""
    config = tiny_config()
    config.population = Population(seeds=2, values="optim.learning_rate=0.05,0.2")
    configs = member_configs(config)
    return configs, together(experiment, configs, "vmap")


@pytest.mark.parametrize(("strategy", "devices"), [("map", 1), ("vmap", 3)])
def test_every_strategy_gives_the_same(experiment, four, strategy, devices):
    configs, expected = four
    assert_alike(together(experiment, configs, strategy, devices), expected)


def test_more_members_than_memory_are_refused(experiment, four, monkeypatch):
    monkeypatch.setattr("cnn_jax.training.population.strategies.device_memory", lambda mesh: [1000])
    with pytest.raises(RunError, match=r"needs .* GiB of each device, .* fewer members"):
        together(experiment, four[0], "vmap")
