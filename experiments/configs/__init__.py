"""One file per config; its docstring is the lab note: what, command, expected result and time."""

import ast
import importlib
import pkgutil
import runpy
from pathlib import Path

from cnn_jax.config import Config, from_json
from cnn_jax.errors import InputError, unknown


def names() -> list[str]:
    """Returns the names of the configs in this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Config:
    """Returns a fresh config by its name, or from a .py file (get_config) or a .json file.

    Raises:
      InputError: there is none.
    """
    if name.endswith((".py", ".json")):
        return _load_file(Path(name))
    if name not in names():
        raise unknown("config", name, names())
    config = importlib.import_module(f"{__name__}.{name}").get_config()
    config.name = name
    return config


def _load_file(path: Path) -> Config:
    if not path.is_file():
        raise InputError(f"there is no config file {path}")
    if path.suffix == ".json":
        return from_json(path.read_text(encoding="utf-8"))
    module = runpy.run_path(str(path))
    if "get_config" not in module:
        raise InputError(f"{path} defines no get_config()")
    config = module["get_config"]()
    config.name = config.name or path.stem
    return config


def describe(name: str) -> str:
    """Returns the first line of a config's lab note."""
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
