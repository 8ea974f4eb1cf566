"""What `experiments.benchmark_analysis` measures, in this project and in plain PyTorch.

A contender takes a run and gives the works it can do: each is a function without arguments that
does the work once and returns its result as a NumPy array. Both frameworks compute with the same
weights; PyTorch's network is built from our list of operations.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from cnn_jax.analysis.activation_maximization import Recipe
from cnn_jax.analysis.operations import operations
from cnn_jax.data.datasets import load_dataset
from cnn_jax.training.predictor import Predictor, load_predictor
from experiments.contenders import OURS

Works = dict[str, Callable[[], np.ndarray]]

IMAGES = 256


def images_and_labels(predictor: Predictor) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first test images in [0, 1], and the classes that are explained."""
    test = load_dataset(predictor.config.data).test
    return test.images[:IMAGES].astype(np.float32) / 255, test.labels[:IMAGES]


def ours(workdir: Path, layer: str, recipe: Recipe) -> Works:
    """Returns the works as `experiments.visualize` does them."""
    import jax
    import jax.numpy as jnp

    from cnn_jax.analysis.activation_maximization import class_images
    from cnn_jax.analysis.attribution import grad_cam
    from cnn_jax.data.normalization import normalize

    predictor = load_predictor(workdir)
    model, variables, spec = predictor.model, predictor.variables, predictor.spec
    prepare = partial(normalize, normalization=predictor.normalization)
    images, labels = map(jnp.asarray, images_and_labels(predictor))
    explain = jax.jit(partial(grad_cam, model, layer=layer, prepare=prepare))

    def classes() -> np.ndarray:
        made = class_images(
            jax.random.key(0),
            model,
            variables,
            jnp.arange(spec.num_classes),
            image_shape=spec.image_shape,
            recipe=recipe,
            prepare=prepare,
        )
        return np.asarray(made)

    return {"classes": classes, "grad_cam": lambda: np.asarray(explain(variables, images, labels))}


def torch(workdir: Path, layer: str, recipe: Recipe) -> Works:
    """Returns the works in plain PyTorch: eager, with hooks, as one writes them by hand."""
    from experiments.contenders import torch_analysis

    predictor = load_predictor(workdir)
    found = operations(predictor.model, predictor.spec.image_shape)
    network = torch_analysis.trained(found, predictor.variables, predictor.normalization)
    images, labels = images_and_labels(predictor)
    shape, count = predictor.spec.image_shape, predictor.spec.num_classes
    return {
        "classes": partial(torch_analysis.class_images, network, shape, count, recipe),
        "grad_cam": partial(torch_analysis.grad_cam, network, layer, images, labels),
    }


CONTENDERS = {OURS: ours, "torch": torch}
