"""The loss that a config names, for the labels that the data has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from cnn_jax.config import Augment, Train
from cnn_jax.data.spec import Spec
from cnn_jax.errors import InputError
from cnn_jax.models.registry import count_parameters
from cnn_jax.training.loop import train_and_evaluate
from cnn_jax.training.losses import binary_cross_entropy, cross_entropy
from cnn_jax.training.objective import class_weights, make_eval_loss, make_loss
from tests.training.tiny import saved_state, tiny_config

THREE = Spec("three", (8, 8, 1), ("a", "b", "c"))
SEVERAL = Spec("several", (8, 8, 1), ("a", "b", "c"), multi_label=True)
TWO = Spec("two", (8, 8, 1), ("a", "b"))
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2], np.int32)
VECTORS = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 1]], np.uint8)


@pytest.fixture
def logits():
    return jax.random.normal(jax.random.key(0), (8, 3))


def test_balanced_weights_are_scikit_learns():
    train = Train(class_weights="balanced")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(class_weights(train, THREE, LABELS), expected)


@pytest.mark.parametrize("spec", [THREE, SEVERAL])
def test_balanced_sigmoids_weigh_there_and_absent_alike(spec):
    labels = VECTORS if spec.multi_label else LABELS
    weights = class_weights(Train(loss="binary", class_weights="balanced"), spec, labels)
    there = VECTORS if spec.multi_label else np.eye(3)[LABELS]
    np.testing.assert_allclose(weights * there.sum(axis=0), (1 - there).sum(axis=0))


def test_training_is_smoothed_and_weighted_and_evaluation_is_not(logits):
    train = Train(label_smoothing=0.1, class_weights="1,2,3.5")
    batch = {"label": jnp.asarray(LABELS)}
    weights = jnp.array([1, 2, 3.5])
    expected = cross_entropy(logits, batch["label"], label_smoothing=0.1, class_weights=weights)
    np.testing.assert_array_equal(make_loss(train, THREE, LABELS)(logits, batch), expected)
    plain = cross_entropy(logits, batch["label"])
    np.testing.assert_array_equal(make_eval_loss(train, THREE)(logits, batch), plain)


def test_sigmoids_are_one_for_two_classes_and_one_each_for_more(logits):
    batch = {"label": jnp.asarray(LABELS)}
    binary = make_eval_loss(Train(loss="binary"), THREE)(logits, batch)
    np.testing.assert_array_equal(binary, binary_cross_entropy(logits, batch["label"]))
    z, label = logits[:, :1], jnp.asarray(LABELS > 0, jnp.int32)
    pair = jnp.concatenate([jnp.zeros_like(z), z], axis=1)
    losses = make_eval_loss(Train(loss="binary"), TWO)(pair, {"label": label})
    expected = -jnp.log(jax.nn.sigmoid(jnp.where(label == 1, z[:, 0], -z[:, 0])))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "spec", "labels", "words"),
    [
        ({}, SEVERAL, VECTORS, "several have any number of labels, .*set --config.train.loss=b"),
        ({"class_weights": "1,2"}, THREE, LABELS, "is '1,2'; it must be balanced, or 3 positive"),
        ({"class_weights": "1,2,x"}, THREE, LABELS, "is '1,2,x'; it must be"),
        ({"class_weights": "1,2,-1"}, THREE, LABELS, "positive numbers"),
        ({"class_weights": "balanced"}, THREE, LABELS[:7], "no training example .* the class c;"),
        (
            {"class_weights": "balanced", "loss": "binary"},
            SEVERAL,
            VECTORS[:3],
            "every training example of several is of the class a",
        ),
    ],
)
def test_what_does_not_fit_is_said(fields, spec, labels, words):
    with pytest.raises(InputError, match=words):
        make_loss(Train(**fields), spec, labels)


def _made_up(tmp_path, labels):
    """Images whose k-th row is bright where the k-th label is there."""
    vectors = labels if labels.ndim == 2 else np.stack([labels == 0, labels == 1], axis=1)
    images = np.random.default_rng(0).integers(0, 60, (len(labels), 8, 8), np.uint8)
    images[:, 1 : 2 * vectors.shape[1] : 2] += (180 * vectors[:, :, None]).astype(np.uint8)
    np.savez(tmp_path / "made.npz", images=images, labels=labels)
    return tmp_path / "made.npz"


def _train(file, workdir, **train):
    config = tiny_config(loss="binary", steps=40, eval_every=40, checkpoint_every=40, **train)
    config.data.name, config.data.dir, config.data.batch_size = "npz", str(file), 32
    config.data.augment = Augment(mixup=0.2)
    result = train_and_evaluate(config, workdir)
    return result, saved_state(workdir, config)[1].params


@pytest.mark.usefixtures("optax_promotes")
def test_a_run_on_several_labels_learns_them_with_mixup_and_weights(tmp_path):
    labels = np.random.default_rng(1).integers(0, 2, (200, 3))
    result, _ = _train(_made_up(tmp_path, labels), tmp_path / "run", class_weights="balanced")
    assert result["test_accuracy"] <= result["test_label_accuracy"]
    assert result["test_label_accuracy"] > 0.9


@pytest.mark.usefixtures("optax_promotes")
def test_a_run_with_one_logit_for_two_classes(tmp_path):
    labels = np.random.default_rng(1).integers(0, 2, 200)
    result, params = _train(_made_up(tmp_path, labels), tmp_path / "run", accumulate=2)
    assert result["test_accuracy"] > 0.9
    assert params["logits"]["kernel"].shape[-1] == 1
    assert count_parameters(params) == result["parameters"]
