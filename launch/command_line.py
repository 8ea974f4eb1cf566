"""What the launch commands share: arguments passed on, and one clear line for wrong input."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from cnn_jax.errors import one_line

WRONG_INPUT, STOPPED = 2, 75


class LaunchError(ValueError):
    """What was asked for can't be started or go on; the message says in one line why."""


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Runs a command; `main` gets what is for the training command, after its own name."""

    def guarded(argv: Sequence[str]) -> int | None:
        try:
            return main(argv)
        except LaunchError as error:
            return _refuse(error)
        except KeyboardInterrupt:
            print("error: interrupted", file=sys.stderr)
            return 1

    app.run(guarded, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    own, passed_on = split(argv[1:])
    try:
        left = flags.FLAGS([argv[0], *own])
        if len(left) > 1:
            raise LaunchError(f"'{left[1]}' is no flag of this command; values follow an '='")
        if "workdir" in flags.FLAGS and flags.FLAGS["workdir"].value == "":
            raise LaunchError("--workdir is empty; it must name a directory: --workdir=DIR")
    except (flags.Error, LaunchError) as error:
        sys.exit(_refuse(error))
    except SystemExit:
        if not any(word.lstrip("-").startswith("help") for word in own):
            raise
        sys.exit(0)  # help was asked for, and given: no failure, as absl has it
    return [argv[0], *passed_on]


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns a launch command's own arguments, and those for the command it launches.

    Those are `--config` and its fields, and everything after a `--`.

    >>> split(["--seeds=3", "--config=lenet_digits", "-config.seed", "1"])
    (['--seeds=3'], ['--config=lenet_digits', '--config.seed=1'])
    >>> split(["--gpus=1", "--", "experiments.train", "--config=vgg_cifar"])
    (['--gpus=1'], ['experiments.train', '--config=vgg_cifar'])
    """
    own, passed_on = [], []
    tokens = iter(arguments)
    for token in tokens:
        name = token.lstrip("-").partition("=")[0]
        if token == "--":
            passed_on += tokens
        elif token.startswith("-") and (name == "config" or name.startswith("config.")):
            value = token.partition("=")[2] if "=" in token else next(tokens, "")
            passed_on.append(f"--{name}={value}")
        else:
            own.append(token)
    return own, passed_on


def _refuse(error: Exception) -> int:
    print(f"error: {one_line(error)}", file=sys.stderr)
    return WRONG_INPUT
