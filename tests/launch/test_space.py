"""The grammar of search spaces, their corners and their grids."""

import itertools
import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.command_line import LaunchError
from launch.space import corners, grid, parse_parameter, read_space, space_of

NAMES = st.from_regex(r"[a-z]+(\.[a-z_]+)?", fullmatch=True)
REALS = st.floats(-1e6, 1e6, allow_nan=False)
WORDS = st.from_regex(r"[a-z]{2,8}[0-9]", fullmatch=True)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-99, 99), REALS, WORDS)


def written(value):
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def space(*texts):
    return space_of([parse_parameter(text) for text in texts])


def drawn(these, count=20):
    """Returns points that Optuna draws at random."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [these(study.ask()) for _ in range(count)]


@given(NAMES, st.lists(VALUES, min_size=1, max_size=5, unique_by=lambda v: (type(v), v)))
def test_a_list_holds_what_was_written(name, values):
    parameter = parse_parameter(f"{name}={','.join(map(written, values))}")
    assert parameter.name == name
    assert parameter.arguments == (tuple(values),)
    assert list(map(type, parameter.arguments[0])) == list(map(type, values))


@given(REALS, REALS)
def test_a_range_keeps_its_ends_and_an_empty_one_is_refused(low, high):
    text = f"x=range:{low!r}:{high!r}"
    if low < high:
        assert parse_parameter(text).arguments == (low, high)
    else:
        with pytest.raises(LaunchError, match="is empty"):
            parse_parameter(text)


@given(st.integers(-50, 50), st.integers(1, 50), st.integers(1, 7))
def test_a_grid_over_whole_numbers_in_steps(low, width, step):
    points = grid(space(f"x=int:{low}:{low + width}:{step}"))
    assert [point["x"] for point in points] == list(range(low, low + width + 1, step))


@given(st.integers(0, 40), st.integers(1, 9), st.sampled_from([0.1, 0.25, 0.3]))
def test_a_grid_over_real_numbers_in_steps(low, count, step):
    """In decimal, as written: 0.1 three times is 0.3 and no bit more."""
    low = low / 10
    points = grid(space(f"x=range:{low}:{round(low + count * step, 10)}:{step}"))
    assert [p["x"] for p in points] == [round(low + i * step, 10) for i in range(count + 1)]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_grid_is_the_product_of_its_lists(sizes):
    texts = [f"x{i}={','.join(map(str, range(size)))}" for i, size in enumerate(sizes)]
    points = [tuple(point.values()) for point in grid(space(*texts))]
    assert points == list(itertools.product(*map(range, sizes)))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_corners_have_every_value_at_least_once(sizes):
    texts = [f"x{i}={','.join(map(str, range(size)))}" for i, size in enumerate(sizes)]
    found = list(corners(space(*texts)))
    for i, size in enumerate(sizes):
        assert {point[f"x{i}"] for point in found} == set(range(size))
    assert len(found) <= sum(sizes)


def test_all_kinds_as_optuna_draws_them():
    texts = ["a=range:-1:1", "b=log:1e-3:1", "c=int:2:9", "d=log_int:16:512", "e=range:0:1:0.25"]
    points = drawn(space(*texts), 200)
    assert all(-1 <= p["a"] <= 1 and 1e-3 <= p["b"] <= 1 for p in points)
    assert {p["c"] for p in points} == set(range(2, 10))
    assert all(type(p["d"]) is int and 16 <= p["d"] <= 512 for p in points)
    assert {p["e"] for p in points} == {0, 0.25, 0.5, 0.75, 1}
    middle = sorted(math.log(p["b"]) for p in points)[100]
    assert middle == pytest.approx(math.log(1e-3) / 2, abs=0.6)  # even in the logarithm


def test_a_step_that_misses_the_end_stops_before_it():
    assert parse_parameter("x=range:0:1:0.3").arguments == (0, 0.9)
    assert parse_parameter("x=int:0:10:4").arguments == (0, 8)


def test_commas_inside_brackets_do_not_part():
    parameter = parse_parameter("optim.milestones=(0.5,0.75),(0.6,)")
    assert parameter.arguments == (("(0.5,0.75)", "(0.6,)"),)


CONDITIONAL = (
    "optim.name=sgd,lars,adamw",
    "optim.momentum=0.8,0.9 if optim.name=sgd,lars",
    "optim.nesterov=true,false if optim.name=sgd",
)


def test_a_conditional_field_is_there_only_when_its_condition_holds():
    points = drawn(space(*CONDITIONAL), 50)
    for point in points:
        assert ("optim.momentum" in point) == (point["optim.name"] in ("sgd", "lars"))
        assert ("optim.nesterov" in point) == (point["optim.name"] == "sgd")
    assert len({point["optim.name"] for point in points}) == 3


def test_a_grid_with_conditions_has_each_point_once():
    points = grid(space(*CONDITIONAL))
    assert len(points) == 2 * 2 + 2 + 1
    assert len(set(map(repr, points))) == len(points)


def test_corners_reach_what_is_behind_a_condition():
    found = list(corners(space(*CONDITIONAL, "x=range:0:1 if optim.nesterov=false")))
    assert {point.get("x") for point in found} == {None, 0, 1}


def test_a_file_may_set_more_than_it_searches(tmp_path):
    path = tmp_path / "space.py"
    path.write_text(
        "def space(trial):\n"
        "    if trial.suggest_categorical('optim.name', ['sgd', 'adamw']) == 'sgd':\n"
        "        trial.suggest_float('optim.momentum', 0, 0.9, step=0.45)\n"
        "    depth = trial.suggest_int('model.depth', 20, 32, step=6)\n"
        "    return {'model.width': 100 / depth}\n"
    )
    these = read_space(path)
    points = drawn(these, 40)
    assert all(point["model.width"] == 100 / point["model.depth"] for point in points)
    assert len(grid(these)) == 3 * (3 + 1)
    assert "model.width" in next(corners(these))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x", "not of the form FIELD="),
        ("=1", "not of the form FIELD="),
        ("x=", "has no values"),
        ("x=1,1", "twice"),
        ("x=range:1", "not of the form"),
        ("x=range:0:1:2:3", "not of the form"),
        ("x=range:0:inf", "finite"),
        ("x=range:0:1:-1", "the step is -1.0"),
        ("x=int:0:1.5", "1.5"),
        ("x=log:-1:1", "above 0, not at -1"),
        ("x=log_int:0:8", "above 0, not at 0"),
        ("x=1 if y", "if FIELD=VALUE"),
    ],
)
def test_what_is_no_parameter_is_refused(text, says):
    with pytest.raises(LaunchError, match=says):
        parse_parameter(text)


def test_a_grid_that_is_too_large_is_refused():
    with pytest.raises(LaunchError, match="more than 100,000 points"):
        grid(space("x=int:1:1000", "y=int:1:1000"))
