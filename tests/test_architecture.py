"""The import rules of the house, and that its modules say what they are and their examples run."""

import ast
import doctest
import functools
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("cnn_jax", "experiments", "launch")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
# A folder or module, and what of the project it may not import.
FORBIDDEN = {
    "cnn_jax": ["experiments", "launch", "matplotlib.pyplot"],  # pyplot keeps global state
    "cnn_jax.layers": ["cnn_jax.models", "cnn_jax.data", "cnn_jax.training", "cnn_jax.analysis"],
    "cnn_jax.data": ["cnn_jax.models", "cnn_jax.training", "cnn_jax.analysis", "flax"],
    "cnn_jax.weights": [
        "cnn_jax.models",
        "cnn_jax.data",
        "cnn_jax.training",
        "cnn_jax.analysis",
        "cnn_jax.config",
    ],
    "cnn_jax.training.step": ["cnn_jax.data", "cnn_jax.training.checkpoint"],
    "cnn_jax.analysis": ["cnn_jax.training.loop", "cnn_jax.training.single_run"],
    "launch": ["experiments"],
}
# These alone may know both the data and the models.
SEE_EVERYTHING = {
    "cnn_jax.training.network",
    "cnn_jax.training.setup",
    "cnn_jax.training.predictor",
}
# What of the library needs no jax.
LIGHT = {
    "cnn_jax.cpus",
    "cnn_jax.errors",
    "cnn_jax.git",
    "cnn_jax.metric_rows",
    "cnn_jax.spread",
    "cnn_jax.whole_files",
}
SLOW_OR_FOREIGN = {"tensorflow", "torch", "keras", "sklearn", "matplotlib", "pandas"}


@functools.cache
def _tree(module):
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def _imports(module):
    """Yields the full names of all that a module imports, inside functions too."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _within(name, package):
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("module", FILES)
def test_imports_follow_the_rules(module):
    forbidden = {f for part, names in FORBIDDEN.items() if _within(module, part) for f in names}
    broken = {name for name in _imports(module) for f in forbidden if _within(name, f)}
    assert not broken


@pytest.mark.parametrize("module", [m for m in FILES if _within(m, "cnn_jax.training")])
def test_training_looks_into_nothing_but_for_its_pictures(module):
    drawn = {name for name in _imports(module) if _within(name, "cnn_jax.analysis")}
    assert module == "cnn_jax.training.pictures" or not drawn


@pytest.mark.parametrize("module", [m for m in FILES if _within(m, "cnn_jax.training")])
def test_only_the_loop_and_its_setup_see_data_and_models(module):
    seen = {p for p in ("data", "models") for n in _imports(module) if _within(n, f"cnn_jax.{p}")}
    assert module in SEE_EVERYTHING or len(seen) < 2


@pytest.mark.parametrize("module", [m for m in FILES if _within(m, "cnn_jax.models")])
def test_models_import_layers_and_flax_alone(module):
    known = {"jax", "flax", "jaxtyping"} | sys.stdlib_module_names
    ours = ("cnn_jax.layers", "cnn_jax.models", "cnn_jax.errors")
    for name in _imports(module):
        is_ours = name == "cnn_jax" or any(_within(name, each) for each in ours)
        assert is_ours or name.split(".")[0] in known, name


@pytest.mark.parametrize("module", [m for m in FILES if _within(m, "launch")])
def test_launch_composes_commands_and_brings_no_jax(module):
    for name in _imports(module):
        library = ".".join(name.split(".")[:2])
        if _within(library, "cnn_jax"):
            assert library in LIGHT, name


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_what_launch_takes_of_the_library_is_light(module):
    known = {"cnn_jax", "scipy"} | sys.stdlib_module_names
    for name in _imports(module):
        assert name.split(".")[0] in known, name
        assert not _within(name, "cnn_jax") or ".".join(name.split(".")[:2]) in LIGHT, name


@pytest.mark.parametrize("module", FILES)
def test_every_module_has_a_docstring_and_fits_a_file(module):
    assert ast.get_docstring(_tree(module))
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= 400


def _has_examples(module):
    """Those of commands don't count: importing one defines its flags, for the whole process."""
    text = FILES[module].read_text(encoding="utf-8")
    return ">>>" in text and "flags.DEFINE" not in text


@pytest.mark.parametrize("module", [m for m in FILES if _has_examples(m)])
def test_examples_run(module):
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted > 0
    assert results.failed == 0


def _loaded_by(statement):
    """Returns the top-level names in sys.modules after a statement in a fresh process."""
    code = f"{statement}\nimport json, sys; print(json.dumps([*sys.modules]))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_the_main_job_imports_nothing_slow_or_foreign():
    loaded = {name.split(".")[0] for name in _loaded_by("import experiments.train")}
    assert "jax" in loaded
    assert not loaded & SLOW_OR_FOREIGN


def test_layers_bring_jax_alone():
    loaded = {name.split(".")[0] for name in _loaded_by("import cnn_jax.layers")}
    assert "jax" in loaded
    assert not loaded & (
        SLOW_OR_FOREIGN | {"flax", "optax", "orbax", "tensorflow_datasets", "absl"}
    )
