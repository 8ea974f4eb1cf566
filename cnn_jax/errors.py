"""What goes wrong in a way that one line explains: the user's input, or a run under way."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

_MANY = 50  # names, which hide the one that was meant
_WANTED = {  # by how Python and absl begin to say that a flag's value is of another type
    "invalid literal for int()": "a whole number is wanted",
    "could not convert string to float": "a number is wanted",
    "('Non-boolean argument": "true or false is wanted",
}


class InputError(ValueError):
    """The user's input is wrong; the message says in one line what is wrong and what is right.

    Entry points print the message without a traceback and exit with code 2.
    """


class RunError(RuntimeError):
    """A run can't go on; the message says in one line at which step and why.

    Entry points print the message without a traceback and exit with code 1.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Returns the error for a name that is not among the known ones, with the nearest of them.

    All are listed unless they are many and one is near.

    >>> print(unknown("network", "vgg61", ["lenet", "vgg16"]))
    unknown network 'vgg61'; did you mean 'vgg16'? Known: lenet, vgg16
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    listed = "" if near and len(known) > _MANY else f" Known: {', '.join(known)}"
    return InputError(f"unknown {kind} '{name}'{hint}{listed}")


def one_line(error: BaseException) -> str:
    """Returns what an error says, in one line and, of a flag's value, without Python's words.

    >>> one_line(ValueError("flag --seeds=two: invalid literal for int() with base 10: 'two'"))
    'flag --seeds=two: a whole number is wanted'
    """
    text = " ".join(str(error).split())
    flag, _, reason = text.partition(": ")
    for said, wanted in _WANTED.items():
        if flag.startswith("flag --") and reason.startswith(said):
            return f"{flag}: {wanted}"
    return text


@contextlib.contextmanager
def writing(path: Path, kind: type[Exception] = RunError) -> Iterator[None]:
    """Turns an OSError of the block into an error of a kind that says what can't be written."""
    try:
        yield
    except OSError as error:
        raise kind(f"{path} can't be written: {error.strerror or error}") from error
