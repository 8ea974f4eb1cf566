"""Parts of photographs: the centre, and random ones by the law that torchvision's crop has."""

import math

import numpy as np
import pytest

from cnn_jax.data.cropping import central_part, random_part
from cnn_jax.data.order import epoch_order

SQUARE = (32, 32)
FIRST = (152.1038083316319, 9.473745939875434, 429.88463070135566, 253.11071579134742)


@pytest.mark.parametrize("share", [1.0, 0.875, 0.3])
@pytest.mark.parametrize("shape", [(375, 500), (500, 333), (64, 64), (1, 900)])
@pytest.mark.parametrize("target", [SQUARE, (20, 30)])
def test_the_central_part_is_the_largest_of_its_aspect_times_its_share(shape, target, share):
    left, top, right, bottom = central_part(shape, target, share=share)
    assert (left + right, top + bottom) == pytest.approx(shape[::-1])
    assert (right - left) / (bottom - top) == pytest.approx(target[1] / target[0])
    assert max((right - left) / shape[1], (bottom - top) / shape[0]) == pytest.approx(share)


def test_a_share_of_0875_is_a_square_of_224_from_one_scaled_to_256():
    scale = 375 / 256
    left, top, right, bottom = central_part((375, 500), (224, 224), share=224 / 256)
    assert ((right - left) / scale, (bottom - top) / scale) == pytest.approx((224, 224))


def _parts(shape, target=SQUARE, *, area=0.08, count=4000):
    return np.array([random_part(shape, target, key=(0, 3, i), area=area) for i in range(count)])


def _drawn_as_torchvision_does(shape, rng, area):
    """Returns share of the area and aspect ratio of a crop, its sides not rounded to pixels."""
    height, width = shape
    for _ in range(10):
        pixels = height * width * rng.uniform(area, 1)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        across, down = math.sqrt(pixels * ratio), math.sqrt(pixels / ratio)
        if across <= width and down <= height:
            return pixels / (height * width), ratio
    ratio = min(max(width / height, 3 / 4), 4 / 3)
    across = min(width, height * ratio)
    return across**2 / ratio / (height * width), ratio


@pytest.mark.parametrize("shape", [(375, 500), (300, 300), (200, 700)])
@pytest.mark.parametrize("area", [0.08, 0.6])
def test_shares_and_aspects_are_drawn_as_torchvision_does(shape, area):
    parts, rng = _parts(shape, area=area), np.random.default_rng(0)
    across, down = parts[:, 2] - parts[:, 0], parts[:, 3] - parts[:, 1]
    found = across * down / math.prod(shape), across / down
    expected = np.array([_drawn_as_torchvision_does(shape, rng, area) for _ in parts]).T
    for one, other in zip(found, expected, strict=True):
        for quantile in (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1):
            assert np.quantile(one, quantile) == pytest.approx(
                np.quantile(other, quantile), abs=0.04
            )


def test_places_are_drawn_evenly_and_within_the_photograph():
    height, width = 375, 500
    parts = _parts((height, width))
    assert (parts[:, :2] >= 0).all()
    assert (parts[:, 2] <= width * (1 + 1e-9)).all() and (parts[:, 3] <= height * (1 + 1e-9)).all()
    x = parts[:, 0] / (width - parts[:, 2] + parts[:, 0])
    y = parts[:, 1] / (height - parts[:, 3] + parts[:, 1])
    for place in x, y:
        np.testing.assert_allclose(np.histogram(place, 4, (0, 1))[0] / len(parts), 0.25, atol=0.03)
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.1


def test_aspects_are_relative_to_the_targets():
    parts = _parts((300, 900), (20, 40), count=500)
    ratios = (parts[:, 2] - parts[:, 0]) / (parts[:, 3] - parts[:, 1])
    assert 1.5 <= ratios.min() < 1.55 and 2.6 < ratios.max() <= 8 / 3 + 1e-9


@pytest.mark.parametrize("shape", [(10, 1000), (1000, 10)])
def test_of_a_stripe_it_is_the_centre_of_an_allowed_aspect(shape):
    left, top, right, bottom = random_part(shape, SQUARE, key=(0, 0, 0), area=0.5)
    assert sorted([right - left, bottom - top]) == pytest.approx([10, 40 / 3])
    assert (left + right, top + bottom) == pytest.approx(shape[::-1])


def test_a_part_is_a_function_of_seed_epoch_and_number():
    def part(*key):
        return random_part((375, 500), SQUARE, key=key, area=0.08)

    assert part(1, 2, 3) == part(1, 2, 3)
    others = [(1, 2, 4), (1, 3, 3), (2, 2, 3), (3, 2, 1), (1, 2, 3 + 2**31 - 4)]
    assert len({part(1, 2, 3), *(part(*key) for key in others)}) == 6
    # Bits are promised never to change, and so the crops of a run that is taken up years later.
    assert part(1, 2, 3) == pytest.approx(FIRST, rel=1e-12)


def test_crops_and_the_order_of_an_epoch_are_drawn_apart():
    parts = np.array([random_part((9, 9), SQUARE, key=(5, 1, i), area=0.1) for i in range(300)])
    places = np.argsort(epoch_order(5, 1, 300))
    assert abs(np.corrcoef(places, parts[:, 0])[0, 1]) < 0.15
