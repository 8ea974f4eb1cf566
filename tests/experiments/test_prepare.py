"""The prepare command, as a process of its own: what it prints, where, and its exit codes."""

import pytest

from tests.experiments.command import run, run_all


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


WRONG = [
    ([], "--dataset=NAME is missing"),
    (["--dataset=mnist", "--data_dir=/elsewhere"], "CNN_JAX_OFFLINE is set (without one, copy"),
    (["--dataset=npz"], "npz needs no preparing: a run makes it or reads it where it lies"),
    (["--dataset=digits", "--data_dir=file"], "file: Not a directory; choose another directory"),
    (
        ["--dataset=digits", "--data_dir=/proc/nope"],
        "can't be prepared in /proc/nope: No such file",
    ),
]


def test_what_cannot_be_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "file").touch()
    answers = run_all("prepare", [arguments for arguments, _ in WRONG], cwd=tmp_path)
    for (code, out, err), (_, words) in zip(answers, WRONG, strict=True):
        assert (code, out) == (2, "") and words in err and err.count("\n") == 1
