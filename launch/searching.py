"""Optuna's samplers and pruners, by the names that the command line has for them."""

from optuna import pruners, samplers

# The seed is another for every trial, and the same when a sweep is repeated.
SAMPLERS = {
    # All points of a grid are in the queue from the start; nothing is left to choose.
    "grid": lambda seed: samplers.RandomSampler(seed=seed),
    "random": lambda seed: samplers.RandomSampler(seed=seed),
    # Halton's sequence is a function of its seed and the trial, so here the seed is fixed.
    "qmc": lambda seed: samplers.QMCSampler(
        qmc_type="halton", scramble=True, seed=0, warn_independent_sampling=False
    ),
    # With a constant liar a trial keeps away from those that are running.
    "tpe": lambda seed: samplers.TPESampler(seed=seed, constant_liar=True),
    "cmaes": lambda seed: samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
}
# These learn from finished trials: of many asked for at once all but the first are worse chosen.
ADAPTIVE = ("tpe", "cmaes")
# Counted in evaluations of a trial's first seed, from 0.
PRUNERS = {
    "none": pruners.NopPruner,
    "median": pruners.MedianPruner,
    "asha": lambda: pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    "hyperband": pruners.HyperbandPruner,
}
