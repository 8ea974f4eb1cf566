"""How the members of a population stand."""

from cnn_jax.training.population.standing import Member
from cnn_jax.training.setup import build_experiment
from tests.training.tiny import tiny_config


def test_what_a_checkpoint_is_given_does_not_change_while_it_is_written():
    member = Member(0, build_experiment(tiny_config()))
    given = member.progress()
    member.sums += [{"loss": 1.0}]  # of the next step
    assert given["sums"] == []
