import os
from pathlib import Path

import pytest

from cnn_jax.config import Config, Data, Train
from cnn_jax.data.spec import Spec
from cnn_jax.errors import InputError
from cnn_jax.training.run_directory import (
    check_run,
    create_run,
    read_config,
    read_json,
    read_spec,
    write_spec,
)
from cnn_jax.whole_files import write_json

CONFIG = Config(name="a", train=Train(steps=3))


def _refused(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_holds_its_config(tmp_path):
    create_run(tmp_path / "deep" / "run", CONFIG)
    assert read_config(tmp_path / "deep" / "run") == CONFIG
    assert os.listdir(tmp_path / "deep" / "run") == ["config.json"]


def test_the_facts_of_the_data_come_back_whole(tmp_path):
    spec = Spec("made", (None, 8, 1), ("cat", "狗"), synthetic=True, multi_label=True)
    write_spec(tmp_path, spec)
    assert read_spec(tmp_path) == spec


def test_checking_a_new_directory_does_not_make_it(tmp_path):
    check_run(tmp_path / "deep" / "run", CONFIG)
    assert os.listdir(tmp_path) == []


def test_the_same_config_may_go_on_elsewhere(tmp_path):
    create_run(tmp_path, CONFIG)
    check_run(tmp_path, CONFIG)
    moved = Config(name="a", data=Data(dir="/other"), train=Train(steps=3), devices=2)
    check_run(tmp_path, moved)


def test_another_config_is_refused_with_the_fields_that_differ(tmp_path):
    create_run(tmp_path, CONFIG)
    before = (tmp_path / "config.json").read_bytes()
    other = Config(name="a", seed=7, data=Data(batch_size=3), train=Train(steps=3))
    message = _refused(check_run, tmp_path, other)
    assert "seed is 0 there, not 7" in message
    assert "data.batch_size is 128 there, not 3" in message
    assert "train" not in message
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize("text", ["{", '{"sede": 1}', ""])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert str(tmp_path / "config.json") in _refused(check_run, tmp_path, CONFIG)


def test_a_directory_without_a_config_is_no_run(tmp_path):
    assert str(tmp_path) in _refused(read_config, tmp_path)


def test_a_file_is_no_run_directory(tmp_path):
    (tmp_path / "file").touch()
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        assert "file" in _refused(check_run, workdir, CONFIG)


@pytest.mark.parametrize(
    ("name", "kind"), [("result.json", "file"), ("normalization.npz", "file"), ("checkpoints", "")]
)
def test_what_lies_in_a_runs_way_is_refused_before_it_starts(name, kind, tmp_path):
    (tmp_path / name).mkdir() if kind else (tmp_path / name).touch()
    message = _refused(check_run, tmp_path, CONFIG)
    assert f"{tmp_path / name} is in the way, it should be a {kind or 'directory'}" in message


def test_an_unwritable_directory_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root
    assert "not writable" in _refused(check_run, tmp_path / "run", CONFIG)


def test_a_directory_that_cannot_be_made_is_refused(monkeypatch, tmp_path):
    def mkdir(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert "Permission denied" in _refused(create_run, tmp_path / "run", CONFIG)


def test_json_files_come_back(tmp_path):
    assert read_json(tmp_path / "none.json") is None
    value = {"ä": [1, None], "of a path that is no text": os.fsdecode(b"\xff.png")}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("content", [b"[1", b"[1]", b"", b'"\xff"'])
def test_a_damaged_json_file_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert f"{tmp_path / 'a.json'} is damaged" in _refused(read_json, tmp_path / "a.json")
