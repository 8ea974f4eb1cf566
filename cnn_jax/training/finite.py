"""What a run does about gradients that are not finite: the step says which, the run ends or not."""

from typing import Any

import jax
from jaxtyping import PyTree

from cnn_jax.errors import RunError
from cnn_jax.training.parameter_paths import path_name


def finite(
    pending: list[dict[str, Any]], *, step: int, params: PyTree, skipped: int, allowed: int
) -> list[dict[str, Any]]:
    """Returns the sums of the steps up to `step` without their `nonfinite`.

    Raises:
      RunError: more steps than `allowed` were `skipped`, or one was bad and none may be.
    """
    bad = [int(sums.pop("nonfinite")) for sums in pending]
    if max(bad) < 0 or (skipped <= allowed and allowed):
        return pending
    i = next(i for i, index in enumerate(bad) if index >= 0)
    path, _ = jax.tree_util.tree_leaves_with_path(params)[bad[i]]
    raise RunError(
        f"the gradient of {path_name(path)} is not finite at step {step - len(bad) + i + 1}"
        f"{f', after {allowed} skipped steps' if allowed else ''}; the checkpoints before it "
        "are kept. Try a lower optim.learning_rate, optim.clip_norm or train.skip_nonfinite"
    )
