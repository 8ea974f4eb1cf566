"""The order of the training examples: a function of the seed and the epoch alone.

The examples form one endless stream: epoch after epoch, each a permutation of its own. Batch t is
the stream's t-th block of `batch_size`, so a batch may run from one epoch into the next, every
example comes exactly once an epoch, and a run resumed at step t needs to know nothing but t.
"""

import numpy as np
from jaxtyping import Int


def epoch_order(seed: int, epoch: int, size: int) -> Int[np.ndarray, " size"]:
    """Returns the order of the examples in one epoch, the same on every machine.

    >>> sorted(epoch_order(seed=0, epoch=3, size=4).tolist())
    [0, 1, 2, 3]
    """
    # Sorting raw bits: NumPy promises that Philox's bits stay the same, not that permutation does.
    bits = np.random.Philox(key=[seed, epoch]).random_raw(size)
    return np.argsort(bits, kind="stable").astype(np.int32)
