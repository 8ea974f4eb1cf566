import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, hamming_loss, top_k_accuracy_score

from cnn_jax.training.metrics import classification_sums, compute, merge, multi_label_sums

LOGITS = jnp.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 9.0]])  # says 0, 1, 0, 1
LABELS = jnp.array([0, 0, 0, 1])
LOSSES = jnp.array([1.0, 2.0, 4.0, 8.0])


@pytest.mark.parametrize(
    ("mask", "loss", "correct", "examples"),
    [
        (None, 15, 3, 4),
        ([True, True, True, True], 15, 3, 4),
        ([True, True, False, False], 3, 1, 2),
        ([False, False, False, True], 8, 1, 1),
        ([False, False, False, False], 0, 0, 0),
    ],
)
def test_sums_by_hand(mask, loss, correct, examples):
    mask = None if mask is None else jnp.array(mask)
    sums = jax.jit(classification_sums)(LOGITS, LABELS, LOSSES, mask)
    totals = merge([jax.device_get(sums)])
    assert totals == {"loss": loss, "correct": correct, "examples": examples}


@pytest.mark.parametrize("padding", [np.nan, np.inf])
def test_what_is_masked_out_may_be_anything(padding):
    losses = LOSSES.at[0].set(padding)
    sums = classification_sums(LOGITS, LABELS, losses, jnp.array([False, True, True, True]))
    assert float(sums["loss"]) == 14


def test_of_shares_the_largest_is_the_right_class():
    shares = jnp.array([[0.4, 0.6], [0.0, 1.0], [0.9, 0.1], [0.2, 0.8]])
    assert int(classification_sums(LOGITS, shares, LOSSES)["correct"]) == 3


@pytest.mark.parametrize("labels", ["classes", "shares"])
def test_of_many_classes_the_five_best_are_counted(labels):
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(size=(60, 20)).astype(np.float32), rng.integers(0, 20, 60)
    mask = np.arange(60) < 47
    there = jnp.array(classes) if labels == "classes" else jax.nn.one_hot(classes, 20)
    sums = jax.jit(classification_sums)(logits, there, jnp.ones(60), mask)
    expected = top_k_accuracy_score(classes[:47], logits[:47], k=5, labels=range(20))
    metrics = compute(merge([jax.device_get(sums)]))
    assert metrics["top5_accuracy"] == pytest.approx(expected) and 0.1 < expected < 0.5


def test_of_equal_logits_the_first_are_the_five_best_and_of_none_that_is_a_number_none_is():
    labels, losses = jnp.arange(20), jnp.ones(20)
    assert int(classification_sums(jnp.ones((20, 20)), labels, losses)["top5_correct"]) == 5
    nothing = jnp.full((20, 20), jnp.nan)
    assert int(classification_sums(nothing, labels, losses)["top5_correct"]) == 0


def test_merged_parts_equal_the_whole():
    whole = classification_sums(LOGITS, LABELS, LOSSES)
    parts = [classification_sums(LOGITS[i], LABELS[i], LOSSES[i]) for i in (np.s_[:1], np.s_[1:])]
    assert merge(jax.device_get(parts)) == merge([jax.device_get(whole)])


def test_merge_adds_in_float64():
    sums = [{"loss": np.float32(1e8)}, *[{"loss": np.float32(1)}] * 7]
    assert merge(sums) == {"loss": 1e8 + 7}


def test_compute_divides_by_examples_or_by_steps():
    totals = {"loss": 6.0, "correct": 3.0, "examples": 4.0, "steps": 2.0, "grad_norm": 5.0}
    assert compute(totals) == {"loss": 1.5, "accuracy": 0.75, "grad_norm": 2.5}


def test_several_labels_an_example_are_right_together_and_one_by_one():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 3)).astype(np.float32)
    labels = np.where(rng.random((40, 3)) < 0.8, logits > 0, logits < 0).astype(np.uint8)
    mask = np.arange(40) < 31
    losses = jnp.where(mask, 0.5, jnp.nan)
    sums = jax.jit(multi_label_sums)(logits, labels, losses, mask)
    metrics = compute(merge([jax.device_get(sums)]))
    there, predicted = labels[mask], logits[mask] > 0
    assert metrics["accuracy"] == pytest.approx(accuracy_score(there, predicted))
    assert 0 < metrics["accuracy"] < metrics["label_accuracy"] < 1
    assert metrics["label_accuracy"] == pytest.approx(1 - hamming_loss(there, predicted))
    assert metrics["loss"] == 0.5
