import json
import resource

import numpy as np
import pytest

from cnn_jax.metric_rows import read_rows
from cnn_jax.training.writers import Writers
from tests.training.events import events


def _write(workdir, start, steps):
    with Writers(workdir, start) as writers:
        for step in steps:
            writers.write({"step": step, "train_loss": step / 8})


def _steps(workdir):
    return [row["step"] for row in read_rows(workdir / "metrics.jsonl")]


def _scalars(workdir):
    """Yields (tag, step, value) of all TensorBoard events."""
    return ((value.tag, step, value.simple_value) for value, step in events(workdir))


def test_rows_go_to_the_file_and_to_tensorboard(tmp_path):
    _write(tmp_path, 0, [1, 2])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "train_loss": 0.125},
        {"step": 2, "train_loss": 0.25},
    ]
    assert list(_scalars(tmp_path)) == [("train_loss", 1, 0.125), ("train_loss", 2, 0.25)]


def test_a_row_is_on_disk_when_the_call_returns(tmp_path):
    with Writers(tmp_path, 0) as writers:
        writers.write({"step": 1})
        assert _steps(tmp_path) == [1]


@pytest.mark.parametrize(
    ("start", "left"), [(0, []), (2, [1, 2]), (3, [1, 2, 3]), (9, [1, 2, 3, 4])]
)
def test_resumed_rows_after_the_step_are_dropped(tmp_path, start, left):
    _write(tmp_path, 0, [1, 2, 3, 4])
    _write(tmp_path, start, [start + 1])
    assert _steps(tmp_path) == [*left, start + 1]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_damaged_line_is_dropped_alone(tmp_path):
    _write(tmp_path, 0, [1, 2, 3])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step": 2', b'"step": \xff'))
    assert _steps(tmp_path) == [1, 3]


def test_a_folder_in_its_place_has_no_rows(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    assert _steps(tmp_path) == []


def test_a_last_line_cut_short_is_dropped(tmp_path):
    _write(tmp_path, 0, [1, 2])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "train_lo')
    assert _steps(tmp_path) == [1, 2]
    _write(tmp_path, 2, [3])
    assert _steps(tmp_path) == [1, 2, 3]


def test_no_file_means_no_rows(tmp_path):
    assert read_rows(tmp_path / "metrics.jsonl") == []


def test_a_row_for_which_there_is_no_room_comes_with_the_next(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Writers(tmp_path, 0) as writers:
        writers.write({"step": 1, "note": 0.0})
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))
        try:
            with pytest.raises(OSError, match="No space"):
                writers.write({"step": 2, "note": 0.0})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert _steps(tmp_path) == [1]
        assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"}\n")
        writers.write({"step": 3, "note": 0.0})
    assert _steps(tmp_path) == [1, 2, 3]


def test_histograms_leave_out_what_is_not_finite(tmp_path):
    with Writers(tmp_path, 0) as writers:
        writers.histogram("some", np.array([1.0, np.nan, 3.0, np.inf], np.float32), 5)
        writers.histogram("none", np.array([np.nan], np.float32), 5)
    ((value, step),) = events(tmp_path)
    assert (value.tag, step, value.histo.num, value.histo.sum) == ("some", 5, 2, 4)
