"""Parameters picked by their path, like "conv1/kernel": frozen ones, and rates of their own."""

import math
import re
from collections.abc import Callable

import jax
import optax
from jaxtyping import PyTree

from cnn_jax.config import Optim
from cnn_jax.errors import InputError


def path_name(path: tuple) -> str:
    """Returns a parameter's path as text, like "conv1/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def freeze(tx: optax.GradientTransformation, pattern: str) -> optax.GradientTransformation:
    """Returns `tx` for the parameters in whose path the pattern, `optim.freeze`, is not found.

    The others get no updates and no optimizer state. Statistics of batch norm are no parameters:
    they go on following the data.

    Raises:
      InputError: the pattern is no regular expression.
    """
    frozen = _pattern("freeze", pattern)
    labels = _map_names(lambda name: "frozen" if frozen.search(name) else "trained")
    return optax.partition({"trained": tx, "frozen": optax.set_to_zero()}, labels)


def multiply_rates(rates: str) -> optax.GradientTransformation:
    """Returns what multiplies updates as `optim.rates` says: by the first pattern that is found.

    Raises:
      InputError: it is not of the form "PATTERN=NUMBER; PATTERN=NUMBER".
    """
    pairs = _pairs(rates)
    multiples = _map_names(lambda name: next((by for p, by in pairs if p.search(name)), 1.0))

    def multiply(updates: PyTree, params: PyTree | None) -> PyTree:
        return jax.tree.map(lambda update, by: update * by, updates, multiples(updates))

    return optax.stateless(multiply)


def check_paths(optim: Optim, params: PyTree) -> None:
    """Raises InputError if a pattern of `optim` finds none of the parameters, or freezes all."""
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    some = f"of the parameters: {', '.join(names[:4])} ... {names[-1]}"
    if optim.freeze:
        found = [name for name in names if _pattern("freeze", optim.freeze).search(name)]
        if not found or found == names:
            much = "all" if found else "none"
            raise InputError(f"optim.freeze is '{optim.freeze}', which finds {much} {some}")
    for pattern, _ in _pairs(optim.rates):
        if not any(map(pattern.search, names)):
            raise InputError(f"optim.rates has '{pattern.pattern}', which finds none {some}")


def _map_names(of_name: Callable[[str], object]) -> Callable[[PyTree], PyTree]:
    return lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: of_name(path_name(path)), params
    )


def _pairs(rates: str) -> list[tuple[re.Pattern, float]]:
    parts = [part.strip().rpartition("=") for part in rates.split(";") if part.strip()]
    multiples = [_multiple(rates, by if equals else "") for _, equals, by in parts]
    patterns = [_pattern("rates", pattern.strip()) for pattern, _, _ in parts]
    return list(zip(patterns, multiples, strict=True))


def _multiple(rates: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (number >= 0 and math.isfinite(number)):
        raise InputError(
            f"optim.rates is '{rates}'; it must be PATTERN=NUMBER with ; between, like "
            "'logits=0.1; bias$=2', no number below 0"
        )
    return number


def _pattern(field: str, text: str) -> re.Pattern:
    try:
        if text:
            return re.compile(text)
        reason = "nothing"
    except re.error as error:
        reason = error
    raise InputError(f"optim.{field} has '{text}', no regular expression: {reason}")
