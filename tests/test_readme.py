"""What the README says can be run, can be run; what it should name, it names."""

import re
from pathlib import Path

import pytest

from experiments import configs

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_first_commands_are_two():
    first = next(text for kind, text in BLOCKS if kind == "bash")
    assert len(first.splitlines()) == 2


@pytest.mark.parametrize("code", [text for kind, text in BLOCKS if kind == "python"])
def test_the_examples_run(code):
    names = {}
    exec(code, names)
    assert names["x"].shape == (8, 16, 16, 16)


@pytest.mark.parametrize("name", configs.names())
def test_every_config_is_named(name):
    assert f"`{name}`" in README


def test_the_tree_names_every_file_of_the_library():
    root = Path(__file__).parent.parent / "cnn_jax"
    files = [path for path in root.rglob("*.py") if path.name != "__init__.py"]
    by_folder = {"sources", "augment"}  # said as wholes
    assert [p.name for p in files if p.parent.name not in by_folder and p.name not in README] == []
