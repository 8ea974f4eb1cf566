"""What commands share: flags that several have, one clear line for wrong input (exit code 2)."""

import gc
import logging
import math
import os
import re
import select
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import absl.logging
import jax
from absl import app, flags
from ml_collections import config_flags

from cnn_jax.config import Config, flatten, optional_fields
from cnn_jax.data.sources.cache import cache_dir
from cnn_jax.errors import InputError, RunError, one_line, unknown
from cnn_jax.training.interruption import Stopped
from experiments import configs
from experiments.host_memory import keep_freed_memory

FAILED, WRONG_INPUT, STOPPED = 1, 2, 75

flags.disclaim_key_flags()  # what is defined for a command is the command's, and in its --help

_FIELD = re.compile(r"--?(?:no)?config\.([^=]*)")


def define_config() -> flags.FlagHolder:
    """Defines --config=NAME and --config.FIELD=VALUE."""
    text = "a config by name, or a .py or .json file; fields: --config.optim.learning_rate=0.1"
    return config_flags.DEFINE_config_dataclass("config", Config(), text, parse_fn=configs.load)


def read_config(flag: flags.FlagHolder) -> Config:
    """Returns the config of the command line, or of --config's default.

    Setting one of train.epochs and train.steps unsets the other. Names may come with or without
    quotes: a,b is 'a','b'.

    Raises:
      InputError: no --config was given.
    """
    if not flag.present:
        raise _no_config()
    config = flag.value
    names = config.data.class_names
    if len(names) == 1 and isinstance(names[0], str):
        config.data.class_names = tuple(name.strip() for name in names[0].split(","))
    given = {token.partition("=")[0] for token in sys.argv}
    train, lengths = config.train, given & {"--config.train.steps", "--config.train.epochs"}
    if lengths == {"--config.train.steps"} and train.steps is not None:
        train.epochs = None
    if lengths == {"--config.train.epochs"} and train.epochs is not None:
        train.steps = None
    return config


def define_workdir() -> flags.FlagHolder:
    """Defines --workdir=DIR, of a run that there is."""
    return flags.DEFINE_string("workdir", None, "the run directory")


def read_workdir(flag: flags.FlagHolder) -> Path:
    """Returns the run directory of the command line.

    Raises:
      InputError: no --workdir was given.
    """
    if flag.value is None:
        raise InputError("--workdir=DIR is missing: the directory of a run")
    return Path(flag.value)


def define_checkpoint() -> flags.FlagHolder:
    """Defines --checkpoint=last or best, of those that a run has kept."""
    return flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "best by validation")


def define_data_dir() -> flags.FlagHolder:
    """Defines --data_dir=PLACE, of a run's data."""
    return flags.DEFINE_string("data_dir", None, "where the data lies now, if it has moved")


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Runs a command and exits with its code: 2 after wrong flags and InputError, 75 if stopped."""

    def guarded(argv: Sequence[str]) -> int | None:
        _quieten()
        _keep_compiled()
        keep_freed_memory()
        try:
            return main(argv)
        except InputError as error:
            return _refuse(error)
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            return STOPPED
        except RunError as error:
            _say(error)
            return FAILED
        except PermissionError as error:
            if error.filename is None:
                raise
            return _refuse(InputError(f"{error.filename} can't be used: {error.strerror}"))
        except KeyboardInterrupt:
            _say(KeyboardInterrupt("interrupted"))
            return FAILED
        finally:
            gc.freeze()  # or Python, ending, would look through all that jax has made once more

    try:
        app.run(guarded, flags_parser=parse)
    except BrokenPipeError:
        if not _reader_has_left():
            raise
        sys.exit(FAILED)


def _reader_has_left() -> bool:
    """Tells whether none reads stdout any more, as after `| head`; the rest then goes nowhere."""
    look = select.poll()
    look.register(sys.stdout.fileno(), 0)
    left = any(event & select.POLLERR for _, event in look.poll(0))
    if left:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return left


def _quieten() -> None:
    """Without --verbosity, Orbax would log what it raises, and jax every device not there."""
    if not flags.FLAGS["verbosity"].present:
        absl.logging.set_verbosity(absl.logging.FATAL)
        logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
    sys.unraisablehook = _say_unraisable


def _say_unraisable(problem: Any) -> None:
    """Says what Python can raise to none, but not that a write comes too late: hundreds may.

    Where one array of a checkpoint finds no room, Orbax ends and says so; the others' answers go
    on reaching a loop that it has closed.
    """
    if str(problem.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(problem)


def _keep_compiled() -> None:
    """Compiled programs are kept between runs, unless jax's own variable says where or that not."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def define_number(
    name: str, default: float, text: str, *, least: float = 0.0, most: float | None = None
) -> flags.FlagHolder:
    """Defines --NAME=NUMBER, which must be finite, at least `least` and at most `most`."""
    holder = flags.DEFINE_float(name, default, text, lower_bound=least, upper_bound=most)
    flags.register_validator(holder, math.isfinite, "it must be finite")
    return holder


def chosen(kind: str, names: Sequence[str], known: Iterable[str]) -> list[str]:
    """Returns the names of a list flag, each once.

    Raises:
      InputError: one of them is not known.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)
    return list(dict.fromkeys(names))


def refuse_arguments(argv: Sequence[str]) -> None:
    """Raises InputError for words that are no flags, such as "--seed 1" leaves behind."""
    if len(argv) > 1:
        raise InputError(f"'{argv[1]}' is no flag of this command; values follow an '='")


def parse(argv: list[str]) -> list[str]:
    """Sets the flags to what a command line says and returns its other words; exits if wrong."""
    for name in list(flags.FLAGS):
        if name.startswith("config."):  # of a command line parsed before
            delattr(flags.FLAGS, name)
    try:
        whole = _joined(_config_first(argv))
        # The flag reads sys.argv to learn which fields are set, so both must say the same.
        sys.argv[:], unset = _without_none(_last_lists(whole))
        words = _read_flags(sys.argv)
        sys.argv[:] = whole
        for name in unset:
            *groups, field = name.split(".")
            setattr(reduce(getattr, groups, flags.FLAGS["config"].value), field, None)
        if "workdir" in flags.FLAGS and flags.FLAGS["workdir"].value == "":
            raise InputError("--workdir is empty; it must name a directory: --workdir=DIR")
        return words
    except (flags.Error, InputError) as error:
        sys.exit(_refuse(error))


def _read_flags(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except SystemExit:
        if not any(word.lstrip("-").startswith("help") for word in argv):
            raise
        sys.exit(0)  # help was asked for, and given: no failure, as absl has it


def _refuse(error: Exception) -> int:
    _say(error)
    return WRONG_INPUT


def _say(error: Exception) -> None:
    print(f"error: {one_line(error)}", file=sys.stderr)


def _config_first(argv: list[str]) -> list[str]:
    """Returns the arguments with --config=NAME in front, its fields checked."""
    first, rest, tokens = [], [], iter(argv[1:])
    for token in tokens:
        token = "-" + token if token.startswith("-config") else token
        if token == "--config":
            name = next(tokens, "--")
            if name.startswith("--"):
                _list_configs()
            first.append(f"--config={name}")
        elif token.startswith("--config="):
            first.append(token)
        else:
            rest.append(token)
    fields = [match[1] for token in rest if (match := _FIELD.match(token))]
    if fields and not first and "config" in flags.FLAGS:
        raise _no_config()
    for field in fields:
        _check_field(field)
    return [argv[0], *first, *rest]


def _joined(argv: list[str]) -> list[str]:
    """Returns the arguments with `--config.FIELD VALUE` as one word, where VALUE may be none."""
    optional, joined = {f"--config.{name}" for name in optional_fields()}, argv[:1]
    for word in argv[1:]:
        if joined[-1] in optional and not word.startswith("-"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _last_lists(argv: list[str]) -> list[str]:
    """Returns the arguments with the last `--config.FIELD=VALUES` of each field that is a list.

    Of any other field the last counts by itself; of these the flags would join all.
    """
    lists = {name for name, value in flatten(Config()).items() if isinstance(value, tuple)}
    fields = [match[1] if (match := _FIELD.match(token)) else "" for token in argv]
    last = {field: i for i, field in enumerate(fields) if field in lists}
    return [
        token
        for i, (token, field) in enumerate(zip(argv, fields, strict=True))
        if last.get(field, i) == i or "=" not in token
    ]


def _without_none(argv: list[str]) -> tuple[list[str], list[str]]:
    """Returns the arguments without `--config.FIELD=none`, and the fields to unset: none is last.

    The flags know the type of a field's values, and that of none is another.
    """
    last, optional = {}, optional_fields() if "config" in flags.FLAGS else set()
    for token in argv:
        match = _FIELD.match(token)
        if match and match[1] in optional:
            last[match[1]] = token.partition("=")[2].lower() == "none"
    unset = [name for name, is_none in last.items() if is_none]

    def stays(token: str) -> bool:
        match, value = _FIELD.match(token), token.partition("=")[2].lower()
        known = match is not None and match[1] in last
        return not known or (match[1] not in unset and value != "none")

    return [token for token in argv if stays(token)], unset


def _check_field(name: str) -> None:
    known = flatten(Config())
    if name in known:
        return
    if any(field.startswith(f"{name}.") for field in known):
        raise InputError(f"--config.{name} is a group of fields, not a field; set one of them")
    raise unknown("config field", name, known)


def _no_config() -> InputError:
    return InputError(f"--config=NAME is missing. Known: {', '.join(configs.names())}")


def _list_configs() -> None:
    names = configs.names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {configs.describe(name)}")
    sys.exit(0)
