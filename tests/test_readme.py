"""What the README says can be run, can be run; what it should name, it names."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from experiments import configs
from tests.experiments.command import run_all as run_experiments
from tests.launch.command import run_all as run_launch

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


def _commands(module):
    """Returns the arguments of each `python -m MODULE ...` in a block of the README."""
    text = "\n".join(block for _, block in BLOCKS).replace("\\\n", " ")
    found = re.findall(rf"^python -m {re.escape(module)} (.*)$", text, re.MULTILINE)
    return [shlex.split(each, comments=True) for each in found]


@pytest.mark.parametrize(
    ("module", "run_all"), [("experiments.train", run_experiments), ("launch.sweep", run_launch)]
)
def test_the_commands_would_start(module, run_all, tmp_path):
    lines = [
        [*words, "--check"]
        for words in _commands(module)
        if not {"DIR", "NAME"} & set(re.split(r"\W", " ".join(words)))
    ]
    assert lines
    for line, answer in zip(lines, run_all(module.split(".")[1], lines, cwd=tmp_path), strict=True):
        assert answer.code == 0, (line, answer.err)
    assert not list(tmp_path.iterdir())


def test_own_images_would_be_trained(tmp_path):
    for path in (tmp_path / name for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png")):
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 50)).save(path)
    lines = [
        [word.replace("=DIR", f"={tmp_path}") for word in words if "init_from" not in word]
        for words in _commands("experiments.train")
        if "--config.data.dir=DIR" in words
    ]
    fit = ["--config.data.test_fraction=0.5", "--config.data.batch_size=2", "--check"]
    for answer in run_experiments("train", [line + fit for line in lines], cwd=tmp_path):
        assert answer.code == 0, answer.err
    assert len(lines) == 2
