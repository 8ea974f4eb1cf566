"""How far the results of equal runs lie apart, and what their mean is worth."""

import statistics
from collections.abc import Sequence

from scipy import stats


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Returns n, mean, standard deviation and half the 95% confidence interval (Student's t).

    >>> spread([0.5])
    {'n': 1, 'mean': 0.5, 'std': None, 'ci95': None}
    """
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return {"n": n, "mean": mean, "std": None, "ci95": None}
    std = statistics.stdev(values)
    half = float(stats.t.ppf(0.975, n - 1)) * std / n**0.5
    return {"n": n, "mean": mean, "std": std, "ci95": half}
