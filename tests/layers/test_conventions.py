import ast
import doctest
import importlib
import inspect
import pathlib
import sys

import pytest

from cnn_jax import layers

FILES = sorted(pathlib.Path(layers.__file__).parent.glob("*.py"))
MODULES = [f"cnn_jax.layers.{file.stem}" for file in FILES if file.stem != "__init__"]
PUBLIC = {name: getattr(layers, name) for name in layers.__all__}
FUNCTIONS = {name: f for name, f in PUBLIC.items() if inspect.isfunction(f)}
ARRAYS_WITH_A_DEFAULT = {"bias"}


def test_everything_imported_is_public():
    names = {
        n for n, v in vars(layers).items() if not n.startswith("_") and not inspect.ismodule(v)
    }
    assert names == set(layers.__all__)
    assert len(FUNCTIONS) > 40


@pytest.mark.parametrize("name", FUNCTIONS)
def test_key_then_arrays_then_keyword_only_options(name):
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    if "key" in parameters:
        assert next(iter(parameters)) == "key"
    for parameter in parameters.values():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            optional = parameter.default is not parameter.empty
            assert not optional or parameter.name in ARRAYS_WITH_A_DEFAULT, parameter.name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_and_result_is_annotated(name):
    signature = inspect.signature(FUNCTIONS[name])
    assert signature.return_annotation is not signature.empty
    assert all(p.annotation is not p.empty for p in signature.parameters.values())


@pytest.mark.parametrize("module", MODULES)
def test_every_public_thing_has_a_docstring(module):
    module = importlib.import_module(module)
    assert module.__doc__
    for name, thing in vars(module).items():
        is_ours = getattr(thing, "__module__", None) == module.__name__
        if (
            is_ours
            and not name.startswith("_")
            and (inspect.isfunction(thing) or inspect.isclass(thing))
        ):
            assert inspect.getdoc(thing), name


@pytest.mark.parametrize("module", [m for m in MODULES if not m.endswith("activation")])
def test_every_module_has_an_example(module):
    """That they run, `tests/test_architecture.py` sees."""
    assert any(test.examples for test in doctest.DocTestFinder().find(sys.modules[module]))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_layers_import_jax_alone(file):
    allowed = {"jax", "jaxtyping"} | sys.stdlib_module_names
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module]
        for name in names:
            assert name.startswith("cnn_jax.layers") or name.split(".")[0] in allowed, name
