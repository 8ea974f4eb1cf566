"""Timed runs: each is the run that `train_and_evaluate` makes with its seed."""

import pytest

from cnn_jax.config import with_fields
from cnn_jax.errors import InputError
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.timed_run import TimedRun, Turn, summary
from tests.training.test_computed_parameters import CONFIG


@pytest.mark.usefixtures("optax_promotes")
def test_a_turn_is_the_run_of_its_seed(tmp_path):
    quick = {"optim.name": "sgd", "optim.hold_norms": False}  # to compile
    config = with_fields(CONFIG, {"data.synthetic.test_examples": 60, **quick})
    train = TimedRun(config)
    train.compile()
    whole = train_and_evaluate(with_fields(config, {"seed": 1}), tmp_path)
    other, (seconds, accuracy) = train(0), train(1)
    assert accuracy == pytest.approx(whole["test_accuracy"])
    assert accuracy != other.test_accuracy
    assert min(seconds, other.seconds) > 0


def test_the_interval_is_students():
    turns = [Turn(1.0, 0.90), Turn(3.0, 0.92), Turn(2.0, 0.94)]
    told = summary(turns)
    assert told["test_accuracy_mean"] == pytest.approx(0.92)
    assert told["test_accuracy_ci95"] == pytest.approx(4.3027 * 0.02 / 3**0.5, rel=1e-4)
    assert (told["seconds"], told["seconds_min"], told["seconds_max"]) == (2.0, 1.0, 3.0)
    assert summary(turns[:1])["test_accuracy_ci95"] is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("population.seeds", 2), ("train.patience", 3), ("train.init_from", "runs/other")],
)
def test_what_a_timed_run_leaves_out_is_refused(field, value):
    with pytest.raises(InputError, match="a timed run"):
        TimedRun(with_fields(CONFIG, {field: value, "data.validation_fraction": 0.2}))
