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
      InputError: there is none, or the file is none of a config.
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
    try:
        module = runpy.run_path(str(path))
        config = module["get_config"]() if "get_config" in module else None
    except (Exception, SystemExit) as error:
        raise InputError(f"{path} fails: {type(error).__name__}: {error}") from error
    if "get_config" not in module:
        raise InputError(f"{path} defines no get_config()")
    if not isinstance(config, Config):
        kind = type(config).__name__
        raise InputError(f"{path}: get_config() returns {kind}; it must return a Config")
    config.name = config.name or path.stem
    return config


def describe(name: str) -> str:
    """Returns the first line of a config's lab note."""
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
