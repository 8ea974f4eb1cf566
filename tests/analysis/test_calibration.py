import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve

from cnn_jax.analysis.calibration import calibration_error, confidences, reliability

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.normal(size=(500, 4))).astype(np.float32)
LABELS = np.where(RNG.random(500) < 0.6, LOGITS.argmax(axis=1), RNG.integers(0, 4, 500))
CHANCES = softmax(LOGITS.astype(float), axis=1)


def _error_by_hand(chances, labels, bins):
    """The definition, one example after the other."""
    members = [[] for _ in range(bins)]
    for row, label in zip(chances, labels, strict=True):
        confidence = max(row)
        which = next(i for i in range(bins) if confidence <= (i + 1) / bins + 1e-15)
        members[which].append((confidence, int(np.argmax(row)) == label))
    gaps = [abs(np.mean([c - hit for c, hit in each])) * len(each) for each in members if each]
    return sum(gaps) / len(labels)


def _diagram(chances, labels, **bins):
    return reliability(chances.max(axis=1), chances.argmax(axis=1) == labels, **bins)


def test_confidences_are_those_of_softmax_and_sigmoid_however_large_the_logits():
    np.testing.assert_allclose(confidences(LOGITS), CHANCES.max(axis=1), rtol=1e-6)
    each = confidences(LOGITS, sigmoids=True)
    np.testing.assert_allclose(each, expit(LOGITS).max(axis=1), rtol=1e-6)
    huge = np.array([[1e30, 0.0, -1e30], [-1e30, -1e30, -1e30]], np.float32)
    np.testing.assert_allclose(confidences(huge), [1, 1 / 3])
    np.testing.assert_array_equal(confidences(huge, sigmoids=True), [1, 0])
    assert confidences(np.zeros((0, 3), np.float32)).shape == (0,)


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_the_error_is_the_definitions(bins):
    found = calibration_error(_diagram(CHANCES, LABELS, bins=bins))
    assert found == pytest.approx(_error_by_hand(CHANCES, LABELS, bins))


def test_the_diagram_is_scikit_learns():
    diagram = _diagram(CHANCES, LABELS, bins=10)
    correct = CHANCES.argmax(axis=1) == LABELS
    accuracy, confidence = calibration_curve(correct, CHANCES.max(axis=1), n_bins=10)
    filled = diagram.counts > 0
    np.testing.assert_allclose(diagram.accuracy[filled], accuracy)
    np.testing.assert_allclose(diagram.confidence[filled], confidence)
    assert np.isnan(diagram.accuracy[~filled]).all()
    assert diagram.counts.sum() == 500


def test_a_network_that_knows_what_it_knows_has_no_error():
    chances = np.repeat([[0.75, 0.25]], 400, axis=0)
    labels = np.repeat([0, 0, 0, 1], 100)
    assert calibration_error(_diagram(chances, labels)) == pytest.approx(0)
    assert calibration_error(_diagram(chances, 0 * labels)) == pytest.approx(0.25)


def test_a_certain_network_is_in_the_last_bin():
    diagram = _diagram(np.eye(3), np.array([0, 1, 0]))
    assert diagram.counts.tolist() == [0] * 14 + [3]
    assert calibration_error(diagram) == pytest.approx(1 / 3)


def test_no_examples_have_no_error():
    with pytest.raises(ValueError, match="no examples"):
        calibration_error(reliability(np.zeros(0), np.zeros(0, bool)))


def test_a_confidence_that_is_no_number_is_no_calibration():
    found = reliability(np.array([0.9, np.nan]), np.array([True, False]))
    assert np.isnan(calibration_error(found))
