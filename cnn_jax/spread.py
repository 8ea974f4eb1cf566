"""What several runs come to: their mean, and how sure it is."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Returns n, mean, standard deviation (n - 1) and half the mean's 95% confidence interval.

    The interval is Student's.

    >>> from cnn_jax.spread import spread
    >>> spread([0.5])
    {'n': 1, 'mean': 0.5, 'std': None, 'ci95': None}
    """
    from scipy.special import stdtrit  # here: the main job needs no SciPy

    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return {"n": n, "mean": mean, "std": None, "ci95": None}
    std = statistics.stdev(values)
    return {"n": n, "mean": mean, "std": std, "ci95": float(stdtrit(n - 1, 0.975)) * std / n**0.5}
