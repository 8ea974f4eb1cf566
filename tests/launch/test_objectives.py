"""What is optimised, and that it is never the test split."""

import math

import pytest

from launch.command_line import LaunchError
from launch.objectives import parse_objectives

ROWS = [
    {"step": 1, "validation_accuracy": 0.5, "validation_loss": 2.0},
    {"step": 2, "train_loss": 1.0},
    {"step": 3, "validation_accuracy": 0.7, "validation_loss": 1.0},
    {"step": 4, "validation_accuracy": 0.6, "validation_loss": math.nan},
]
RESULT = {"parameters": 100, "test_accuracy": 0.9, "train_seconds": 3.5}


@pytest.mark.parametrize(
    ("name", "value"),
    [("validation_accuracy", 0.7), ("-validation_loss", 1.0), ("-parameters", 100)],
)
def test_the_best_on_the_way_and_what_the_result_says(name, value):
    (objective,) = parse_objectives([name])
    assert objective.value(ROWS, RESULT) == value
    assert str(objective) == name


def test_the_curve_is_that_of_the_evaluations():
    assert parse_objectives(["validation_accuracy"])[0].curve(ROWS) == [0.5, 0.7, 0.6]


@pytest.mark.parametrize("name", ["test_accuracy", "-test_loss"])
def test_the_test_split_is_refused(name):
    with pytest.raises(LaunchError, match="never chooses by the test split"):
        parse_objectives([name])


def test_a_metric_that_was_not_measured_is_said():
    (objective,) = parse_objectives(["validation_label_accuracy"])
    with pytest.raises(
        LaunchError, match="no finite validation_label_accuracy; it has validation_accuracy"
    ):
        objective.value(ROWS, RESULT)
