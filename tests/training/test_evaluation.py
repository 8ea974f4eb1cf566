import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.training.evaluation import evaluate
from cnn_jax.training.metrics import classification_sums

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 4)).astype(np.float32)
LABELS = RNG.integers(0, 4, 50).astype(np.int32)


@jax.jit
def _eval_step(variables, batch):
    """The images are the logits."""
    logits = batch["image"] * variables
    losses = logits[:, 0]
    return classification_sums(logits, batch["label"], losses, batch["mask"]), logits


def _batches(count, size):
    padded = -(-count // size) * size
    index = np.arange(padded) % count
    mask = np.arange(padded) < count
    for at in range(0, padded, size):
        here = index[at : at + size]
        yield {
            "image": jnp.asarray(LOGITS[here]),
            "label": jnp.asarray(LABELS[here]),
            "mask": jnp.asarray(mask[at : at + size]),
        }


@pytest.mark.parametrize(("count", "size"), [(50, 50), (50, 7), (50, 64), (1, 3), (49, 7)])
def test_every_example_counts_once(count, size):
    result = evaluate(_eval_step, jnp.float32(1), _batches(count, size), examples=count)
    np.testing.assert_array_equal(result.logits, LOGITS[:count])
    expected = (LOGITS[:count].argmax(axis=1) == LABELS[:count]).mean()
    assert result.metrics["accuracy"] == expected
    np.testing.assert_allclose(result.metrics["loss"], LOGITS[:count, 0].mean(), atol=1e-6)
    assert result.examples == count


def test_a_wrong_count_is_an_error():
    with pytest.raises(AssertionError, match="evaluated 50 of 51 examples"):
        evaluate(_eval_step, jnp.float32(1), _batches(50, 7), examples=51)
