"""The prepare command, as a process of its own: what it prints, where, and its exit codes."""

import pytest

from tests.experiments.command import run


@pytest.fixture(autouse=True)
def _own_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("CNN_JAX_OFFLINE", "1")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))


def test_digits_once_and_again(tmp_path):
    home = tmp_path / "digits" / "1.0.0"
    answer = run("prepare", "--dataset=digits", cwd=tmp_path)
    assert answer == (0, "", f"digits is prepared in {home}\n")
    assert (home / "dataset_info.json").is_file()
    answer = run("prepare", "--dataset=digits", cwd=tmp_path)
    assert answer == (0, "", f"digits is already prepared in {home}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--dataset=NAME is missing"),
        (["--dataset=mnist", "--data_dir=/elsewhere"], "CNN_JAX_OFFLINE is set (without one, copy"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(arguments, words, tmp_path):
    code, out, err = run("prepare", *arguments, cwd=tmp_path)
    assert (code, out) == (2, "") and words in err and err.count("\n") == 1
