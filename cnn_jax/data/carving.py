"""Which examples are set apart for validation and testing: the same on every machine."""

import numpy as np
from jaxtyping import Bool, Int

from cnn_jax.data.spec import Split
from cnn_jax.errors import InputError

# Both draw on Philox's raw output: unlike `permutation`, it is promised never to change.
_VALIDATION_KEY = 2
_TEST_KEY = 1797


def carve_validation(train: Split, fraction: float | int) -> tuple[Split, Split | None]:
    """Splits train into what remains of it and a validation split, at random.

    The choice depends on nothing but the number of examples; both parts keep their order. A
    fraction of 0 carves none.

    Raises:
      InputError: the fraction is out of range or leaves one part empty.
    """
    if not 0 <= fraction < 1:
        raise InputError(
            f"validation_fraction is {fraction}; it must be at least 0 and less than 1"
        )
    if fraction == 0:
        return train, None
    size = len(train)
    count = round(fraction * size)
    if not 0 < count < size:
        raise InputError(
            f"validation_fraction {fraction} of {size} training examples leaves one part empty; "
            f"it must be {' or '.join([*_possible(size), '0'])}"
        )
    order = np.argsort(np.random.Philox(key=_VALIDATION_KEY).random_raw(size), kind="stable")
    chosen = np.zeros(size, bool)
    chosen[order[:count]] = True
    return train.only(~chosen), train.only(chosen)


def carve_test(
    labels: Int[np.ndarray, " n"], fraction: float | int, what: str
) -> Bool[np.ndarray, " n"]:
    """Marks a fraction of the examples for testing, balanced as by `choose_test`.

    Raises:
      InputError: the fraction leaves one part of `what` empty.
    """
    size = len(labels)
    count = round(fraction * size)
    if not 0 < count < size:
        advice = "".join(f"it must be {span}" for span in _possible(size))
        raise InputError(
            f"test_fraction {fraction} of the {size} examples of {what} leaves one part empty; "
            + (advice or "there must be more")
        )
    return choose_test(labels, count=count)


def _possible(size: int) -> list[str]:
    """Returns the span of fractions that leave some in both parts, or nothing if there is none.

    >>> _possible(1500), _possible(2), _possible(1)
    (['between 0.0007 and 0.9993'], ['0.5'], [])
    """
    if size < 2:
        return []
    low, high = (_fraction(count, size) for count in (1, size - 1))
    return [f"between {low} and {high}" if low != high else low]


def _fraction(count: int, size: int) -> str:
    """Returns count / size in the fewest digits that still make it `count` of `size`."""
    texts = (f"{count / size:.{digits}g}" for digits in range(1, 18))
    return next(text for text in texts if round(float(text) * size) == count)


def choose_test(labels: Int[np.ndarray, " n"], *, count: int) -> Bool[np.ndarray, " n"]:
    """Marks `count` examples for testing: random, but the same always, and balanced over classes.

    The examples are sorted by class, and at random within a class; then every (n / count)-th is
    marked. So each class has its proportional number, rounded up or down. The random numbers are
    the raw output of Philox with a fixed key, which NumPy promises never to change.

    >>> import numpy as np
    >>> chosen = choose_test(np.array([0, 0, 0, 0, 1, 1, 1, 1]), count=2)
    >>> chosen[:4].sum(), chosen[4:].sum()
    (np.int64(1), np.int64(1))
    """
    noise = np.random.Philox(key=_TEST_KEY).random_raw(len(labels))
    by_class = np.lexsort((noise, labels))
    is_test = np.zeros(len(labels), bool)
    is_test[by_class[np.arange(count) * len(labels) // count]] = True
    return is_test
