"""Which members a config makes, and which it can't."""

import pytest

from cnn_jax.config import Config, Population, flatten, from_json, to_json
from cnn_jax.config_checks import validate
from cnn_jax.errors import InputError
from cnn_jax.training.population.members import (
    VARIABLE,
    combinations,
    describe,
    differing,
    member_configs,
)


def config(**population):
    made = Config(population=Population(**population))
    made.train.steps = 1
    return made


def test_seeds_alone():
    made = config(seeds=3)
    made.seed = 5
    members = member_configs(made)
    assert [member.seed for member in members] == [5, 6, 7]
    assert all(member.population == Population() for member in members)
    assert differing(members) == []


def test_every_combination_with_every_seed():
    values = "optim.learning_rate=0.1,1e-2; model.dropout=0,0.5"
    members = member_configs(config(seeds=2, values=values))
    made = [(m.optim.learning_rate, m.model.dropout, m.seed) for m in members]
    assert made == [(lr, rate, s) for lr in (0.1, 0.01) for rate in (0.0, 0.5) for s in (0, 1)]
    assert differing(members) == ["model.dropout", "optim.learning_rate"]
    assert describe(members[1], ["optim.learning_rate"]) == "seed=1 optim.learning_rate=0.1"


def test_zipped_lists_go_together():
    made = config(values="optim.learning_rate=0.1,0.2;optim.weight_decay=0,0.1", combine="zip")
    assert combinations(made.population) == [
        {"optim.learning_rate": 0.1, "optim.weight_decay": 0.0},
        {"optim.learning_rate": 0.2, "optim.weight_decay": 0.1},
    ]
    assert [member.seed for member in member_configs(made)] == [0, 0]
    again = config(values="optim.learning_rate=0.1,0.1;optim.weight_decay=0,0.1", combine="zip")
    assert len(member_configs(again)) == 2
    twice = config(values="optim.learning_rate=0.1,0.1;optim.weight_decay=0,0", combine="zip")
    with pytest.raises(InputError, match="different numbers"):
        member_configs(twice)


def test_the_config_is_left_as_it_is_and_can_be_written():
    made = config(seeds=2, values="data.augment.brightness=0.1,0.2", halving=(0.5,))
    again = from_json(to_json(made))
    member_configs(made)
    assert again == made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("model.depth=20,56", r"model.depth can't differ .* optim.learning_rate, .*brightness"),
        ("data.batch_size=32,64", "data.batch_size can't differ"),
        ("optim.learning_rat=0.1,0.2", "did you mean 'optim.learning_rate'"),
        ("optim.learning_rate", "different numbers, such as optim.learning_rate=0.01,0.03"),
        ("optim.learning_rate=", "different numbers"),
        ("optim.learning_rate=0.1,high", "different numbers"),
        ("optim.learning_rate=0.1,0.1", "different numbers"),
        ("optim.learning_rate=0.1,-1", "optim.learning_rate is -1.0; it must be above 0"),
        ("optim.learning_rate=0.1,nan", "must be finite"),
        ("model.dropout=0.5,1", "model.dropout is 1.0"),
        ("optim.momentum=0,0.9", "optim.momentum is 0.0 and 0.9; with and without it are two"),
        ("optim.beta1=0.8;optim.beta1=0.9", "a field twice"),
    ],
)
def test_values_that_cannot_be(values, message):
    with pytest.raises(InputError, match=message):
        member_configs(config(values=values))


def test_members_that_are_too_many_are_not_begun():
    made = config(seeds=501, values="optim.beta1=0.8,0.9")
    with pytest.raises(InputError, match="make 1,002 members; it may be 1,000 at most"):
        member_configs(made)
    with pytest.raises(InputError, match="make 4,294,967,297 members"):
        member_configs(config(seeds=2**32 + 1))
    made = config(seeds=2)
    made.seed = 2**32 - 1
    with pytest.raises(InputError, match="seed is 4294967296"):
        member_configs(made)


def test_other_settings_that_cannot_be():
    with pytest.raises(InputError, match=r"lists of one length, not optim.beta1=2 optim.beta2=1"):
        member_configs(config(values="optim.beta1=0.8,0.9; optim.beta2=0.9", combine="zip"))
    for options, message in (
        ({"combine": "zipp"}, "did you mean 'zip'"),
        ({"strategy": "pmap"}, "did you mean 'map'"),
        ({"seeds": -1}, "population.seeds is -1"),
        ({"halving": (0.5, 0.2)}, "rising"),
    ):
        with pytest.raises(InputError, match=message):
            validate(config(**options))


def test_every_variable_field_is_a_number_of_the_config():
    for path in VARIABLE:
        members = member_configs(config(values=f"{path}=0.25,0.5"))
        assert [flatten(member)[path] for member in members] == [0.25, 0.5]
