import shutil
from pathlib import Path

import pytest


def _make_fake(place):
    (place / "experiments").mkdir(parents=True)
    (place / "experiments" / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("fake_train.py"), place / "experiments" / "train.py")
    return place


@pytest.fixture(scope="module")
def fake_place(tmp_path_factory):
    """A directory where `python -m experiments.train` is the fake one."""
    return _make_fake(tmp_path_factory.mktemp("fake") / "here")


@pytest.fixture
def fake_train(tmp_path, monkeypatch):
    """Makes `python -m experiments.train` the fake one, in a directory of its own; returns that."""
    place = _make_fake(tmp_path / "here")
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def no_page():
    """Leaves out the page, which takes longer to draw than a fake sweep; undo() draws it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("launch.pool.write_page", lambda *arguments: None)
        yield patch
