import shutil
from pathlib import Path

import pytest


@pytest.fixture
def fake_train(tmp_path, monkeypatch):
    """Makes `python -m experiments.train` the fake one, in a directory of its own; returns that."""
    place = tmp_path / "here"
    (place / "experiments").mkdir(parents=True)
    (place / "experiments" / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("fake_train.py"), place / "experiments" / "train.py")
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def no_page():
    """Leaves out the page, which takes longer to draw than a fake sweep; undo() draws it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("launch.pool.write_page", lambda *arguments: None)
        yield patch
