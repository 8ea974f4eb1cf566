"""Explanations against plain computations, and the properties their papers promise."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from cnn_jax.analysis import attribution
from cnn_jax.analysis.iteration import iterate
from cnn_jax.errors import InputError
from cnn_jax.models.registry import build_model
from tests.analysis.small import (
    IMAGES,
    LABELS,
    LISTED,
    LISTED_VARIABLES,
    MODEL,
    SHAPE,
    VARIABLES,
    prepare,
    scores,
)
from tests.models.networks import make_variables

KEY = jax.random.key(3)
ARGUMENTS = (MODEL, VARIABLES, IMAGES, LABELS)


def test_saliency_is_the_gradient_by_pixels():
    found = attribution.saliency(*ARGUMENTS, prepare=prepare)
    step = 1e-2
    for at in [(0, 2, 3, 1), (2, 5, 5, 0)]:
        nudge = jnp.zeros_like(IMAGES).at[at].set(step)
        slope = (scores(IMAGES + nudge) - scores(IMAGES - nudge))[at[0]] / (2 * step)
        assert found[at] == pytest.approx(float(slope), rel=0.05, abs=1e-3)
    pixels = attribution.per_pixel(found)
    np.testing.assert_array_equal(pixels, np.abs(np.asarray(found)).max(-1))


def test_smooth_grad_without_noise_is_saliency_and_noise_is_a_share_of_the_range():
    plain = attribution.saliency(*ARGUMENTS, prepare=prepare)
    smooth = partial(attribution.smooth_grad, KEY, *ARGUMENTS, samples=4, prepare=prepare)
    np.testing.assert_allclose(smooth(noise=0.0), plain, rtol=1e-4, atol=1e-5)
    noisy = smooth(noise=0.3)
    assert not np.allclose(noisy, plain, rtol=1e-2)
    spread = np.ptp(np.asarray(IMAGES), axis=(1, 2, 3))[:, None, None, None]
    gradient = jax.jit(jax.grad(lambda x: scores(x).sum()))
    expected = sum(
        gradient(IMAGES + 0.3 * spread * jax.random.normal(key, IMAGES.shape))
        for key in jax.random.split(KEY, 4)
    )
    np.testing.assert_allclose(noisy, expected / 4, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_integrated_gradients_are_complete(baseline):
    found = attribution.integrated_gradients(
        *ARGUMENTS, baseline=baseline, steps=128, prepare=prepare
    )
    change = scores(IMAGES) - scores(jnp.full_like(IMAGES, baseline))
    np.testing.assert_allclose(found.sum((1, 2, 3)), change, rtol=0.01, atol=0.02)


def test_grad_cam_is_what_its_formula_says():
    """The layer is followed by a dense one, whose weights are the gradients."""
    found = attribution.grad_cam(*ARGUMENTS, layer="act2", prepare=prepare)
    _, state = MODEL.apply(VARIABLES, prepare(IMAGES), train=False, capture_intermediates=True)
    maps = np.asarray(state["intermediates"]["act2"]["__call__"][0])
    kernel = np.asarray(VARIABLES["params"]["logits"]["kernel"]).reshape(2, 2, 6, 3)
    for i, label in enumerate(LABELS):
        weights = kernel[..., label].mean((0, 1))
        cam = np.maximum((maps[i] * weights).sum(-1), 0)
        expected = jax.image.resize(cam, SHAPE[:2], "linear")
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-5)
    assert (found >= 0).all() and found.max() > 0


def test_occlusion_is_what_a_loop_finds():
    found = attribution.occlusion(*ARGUMENTS, window=3, stride=2, fill=0.2, prepare=prepare)
    total, count = np.zeros((3, 8, 8)), np.zeros((8, 8))
    for top in (0, 2, 4, 5):
        for left in (0, 2, 4, 5):
            hidden = np.array(IMAGES)
            hidden[:, top : top + 3, left : left + 3] = 0.2
            drop = np.asarray(scores(IMAGES) - scores(jnp.asarray(hidden)))
            total[:, top : top + 3, left : left + 3] += drop[:, None, None]
            count[top : top + 3, left : left + 3] += 1
    np.testing.assert_allclose(found, total / count, rtol=1e-3, atol=1e-4)


def test_squares_that_leave_pixels_out_are_refused():
    with pytest.raises(ValueError, match="a stride of 4 leaves pixels out"):
        attribution.occlusion(*ARGUMENTS, window=3, stride=4)
    with pytest.raises(ValueError, match="stride must be a positive integer"):
        attribution.occlusion(*ARGUMENTS, window=3, stride=0)


def test_means_of_nothing_are_refused():
    with pytest.raises(ValueError, match="samples must be a positive integer"):
        attribution.smooth_grad(KEY, *ARGUMENTS, samples=0)
    with pytest.raises(ValueError, match="steps must be a positive integer"):
        attribution.integrated_gradients(*ARGUMENTS, steps=0)


METHODS = {
    "saliency": attribution.saliency,
    "smooth_grad": partial(attribution.smooth_grad, KEY, samples=4),
    "integrated_gradients": partial(attribution.integrated_gradients, steps=4),
    "grad_cam": partial(attribution.grad_cam, layer="act2"),
    "occlusion": partial(attribution.occlusion, window=4, stride=2),
}


@pytest.mark.parametrize("name", METHODS)
def test_random_weights_give_another_explanation(name):
    """Adebayo et al., arXiv 1810.03292: what explains the network changes with its weights."""
    images = jax.random.uniform(jax.random.key(7), (16, *SHAPE))
    labels = jnp.arange(16) % 3
    method = jax.jit(partial(METHODS[name], MODEL))
    original, random = (
        np.asarray(method(variables, images, labels)).ravel()
        for variables in (VARIABLES, make_variables(MODEL, SHAPE, seed=6))
    )
    assert abs(spearmanr(original, random).statistic) < 0.5


@pytest.mark.parametrize("name", ["integrated_gradients", "grad_cam"])
def test_compiled_as_one_program_it_is_the_same(name):
    arguments = (VARIABLES, IMAGES, LABELS)
    method = partial(METHODS[name], MODEL)
    np.testing.assert_allclose(
        method(*arguments), jax.jit(method)(*arguments), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize("name", METHODS)
def test_a_label_that_is_no_class_is_refused(name, label):
    labels = jnp.array([0, label, 1])
    with pytest.raises(ValueError, match=f"no class or channel {label}, only 0 to 2"):
        METHODS[name](MODEL, VARIABLES, IMAGES, labels)


def test_grad_cam_of_no_layer_is_refused():
    with pytest.raises(InputError, match="unknown layer 'act3'"):
        attribution.grad_cam(*ARGUMENTS, layer="act3")


def test_grad_cam_of_a_layer_without_maps_is_refused():
    with pytest.raises(
        InputError, match=r"'logits' returns no maps, but an array of shape \(3, 3\)"
    ):
        attribution.grad_cam(*ARGUMENTS, layer="logits")


@pytest.mark.parametrize("name", METHODS)
def test_a_model_without_a_hash_is_explained(name):
    layer = {"layer": "conv1"} if name == "grad_cam" else {}
    assert METHODS[name](LISTED, LISTED_VARIABLES, IMAGES, LABELS, **layer).shape[:3] == (3, 8, 8)


def test_steps_are_the_same_one_by_one_and_as_a_scan():
    step = lambda carry, x, factor: (carry[0] * factor + x["a"], carry[1] + 1)
    start, xs = (jnp.zeros(()), jnp.zeros((), jnp.int32)), {"a": jnp.arange(5.0)}
    one_by_one = iterate(step, start, xs, jnp.float32(0.5))
    scanned = jax.jit(lambda *args: iterate(step, *args))(start, xs, jnp.float32(0.5))
    expected = sum(x * 0.5 ** (4 - x) for x in range(5))
    for total, count in (one_by_one, scanned):
        assert (float(total), int(count)) == (pytest.approx(expected), 5)


def test_one_logit_explains_either_class():
    model = build_model("fashion_convnet", 2, single_logit=True)
    variables = make_variables(model, (28, 28, 1))
    image = jax.random.uniform(KEY, (1, 28, 28, 1))
    saliency = jax.jit(partial(attribution.saliency, model))
    for_one, against = (saliency(variables, image, jnp.array([label])) for label in (1, 0))
    assert jnp.abs(for_one).max() > 0
    np.testing.assert_allclose(against, -for_one, rtol=1e-5, atol=1e-7)
    networks = (model, model.network)
    run = jax.jit(lambda *a: [each.apply(*a, train=False) for each in networks])
    logits, z = run(variables, image)
    np.testing.assert_allclose(jax.nn.softmax(logits)[:, 1:], jax.nn.sigmoid(z), rtol=1e-5)
