"""Random values for a network's variables, by name."""

import jax
import numpy as np


def random_arrays(shapes):
    """Returns an array for every leaf of variables that are shapes, positive as variances are."""
    rng = np.random.default_rng(0)
    paths = jax.tree_util.tree_leaves_with_path(shapes)
    return {
        jax.tree_util.keystr(path[1:], simple=True, separator="/"): rng.random(
            leaf.shape, np.float32
        )
        for path, leaf in paths
    }
