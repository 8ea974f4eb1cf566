"""What a run minimises, by its config and the labels of its training split."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cnn_jax.config import Train
from cnn_jax.data.spec import Labels, Spec
from cnn_jax.errors import InputError
from cnn_jax.training.losses import LossFn, binary_cross_entropy, cross_entropy, of_labels
from cnn_jax.training.metrics import SumsFn, classification_sums, multi_label_sums


def single_logit(train: Train, spec: Spec) -> bool:
    """Whether one logit tells two classes apart, see `models.modules.SingleLogit`.

    Its sigmoid's cross-entropy is the softmax's of the two logits that the module returns.
    """
    return train.loss == "binary" and spec.num_classes == 2 and not spec.multi_label


def make_loss(train: Train, spec: Spec, labels: Labels) -> LossFn:
    """Returns the loss of the config for training; `labels` are those of the training split.

    Raises:
      InputError: the loss or the class weights do not fit the data.
    """
    options = {"label_smoothing": train.label_smoothing}
    if train.class_weights:
        options["class_weights"] = jnp.asarray(class_weights(train, spec, labels), jnp.float32)
    return of_labels(_loss(train, spec), **options)


def make_eval_loss(train: Train, spec: Spec) -> LossFn:
    """Returns the loss of the config for evaluation: without smoothing and class weights."""
    return of_labels(_loss(train, spec))


def make_sums(spec: Spec) -> SumsFn:
    """Returns the metrics' sums that the data calls for."""
    return multi_label_sums if spec.multi_label else classification_sums


def sigmoid_each(train: Train, spec: Spec) -> bool:
    """Whether every class has a sigmoid of its own: then probabilities don't sum to one."""
    return train.loss == "binary" and not single_logit(train, spec)


def _loss(train: Train, spec: Spec) -> Callable:
    if spec.multi_label and train.loss != "binary":
        raise InputError(
            f"the images of {spec.name} have any number of labels, for which train.loss="
            f"{train.loss} is not meant; set --config.train.loss=binary"
        )
    return binary_cross_entropy if sigmoid_each(train, spec) else cross_entropy


def class_weights(train: Train, spec: Spec, labels: Labels) -> Float[np.ndarray, " classes"]:
    """Returns the weights that `train.class_weights` gives or, as "balanced", asks for.

    Balanced weights are n / (classes · n_c) for a class with n_c of the n examples (scikit-learn's
    rule: every class counts the same). With a sigmoid for each class they are (n - n_c) / n_c, so
    that in each of these problems there and absent count the same.

    Raises:
      InputError: they are not positive numbers, one for each class; or a class has no example.
    """
    if train.class_weights == "balanced":
        return _balanced(train, spec, labels)
    try:
        weights = np.array([float(part) for part in train.class_weights.split(",")])
    except ValueError:
        weights = np.zeros(1)
    if len(weights) != spec.num_classes or not (np.isfinite(weights) & (weights > 0)).all():
        raise InputError(
            f"train.class_weights is '{train.class_weights}'; it must be balanced, or "
            f"{spec.num_classes} positive numbers with commas between, one for each class"
        )
    return weights


def _balanced(train: Train, spec: Spec, labels: Labels) -> Float[np.ndarray, " classes"]:
    n, classes = len(labels), spec.num_classes
    counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=classes)
    one_each = sigmoid_each(train, spec)
    for name, count in zip(spec.class_names, counts, strict=True):
        if count == 0 or (one_each and count == n):
            raise InputError(
                f"train.class_weights is balanced, but {'no' if count == 0 else 'every'} training "
                f"example of {spec.name} is of the class {name}; give the weights as numbers"
            )
    return (n - counts) / counts if one_each else n / (classes * counts)
