import csv

import numpy as np
import pytest

from cnn_jax.analysis.class_scores import per_class
from cnn_jax.analysis.tables import write_confusion_matrix, write_per_class

MATRIX = np.array([[3, 1], [0, 4]])
NAMES = ("cat", 'dog, or "wolf"')


def _read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_confusion_matrix_by_name(tmp_path):
    write_confusion_matrix(tmp_path / "a.csv", MATRIX, NAMES)
    header, *rows = _read(tmp_path / "a.csv")
    assert header[1:] == list(NAMES)
    assert rows == [["cat", "3", "1"], [NAMES[1], "0", "4"]]


def test_per_class_table(tmp_path):
    write_per_class(tmp_path / "a.csv", MATRIX.sum(axis=1), per_class(MATRIX), NAMES)
    header, *rows = _read(tmp_path / "a.csv")
    assert header == ["class", "examples", "precision", "recall", "f1"]
    assert [row[:2] for row in rows] == [["cat", "4"], [NAMES[1], "4"]]
    values = np.array([[float(cell) for cell in row[2:]] for row in rows])
    np.testing.assert_allclose(values, [[1, 0.75, 6 / 7], [0.8, 1, 8 / 9]])


def test_names_must_match_the_classes(tmp_path):
    with pytest.raises(ValueError):
        write_confusion_matrix(tmp_path / "a.csv", MATRIX, NAMES[:1])
