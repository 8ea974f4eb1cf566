import base64
import io

import numpy as np
import pytest
from PIL import Image

from cnn_jax.analysis import page
from tests.analysis.html import Page

NASTY = "</title><script>alert(1)</script> & \"quotes\" 'too' 猫"


def test_everything_is_escaped_wherever_it_stands():
    body = [
        page.tag("h1", page.name(NASTY)),
        page.table([NASTY], [[NASTY]]),
        page.tiles({NASTY: (NASTY, NASTY)}),
        page.figure("<svg></svg>", NASTY),
        page.image(np.zeros((2, 2, 1), np.uint8), NASTY),
    ]
    read = Page(page.page(NASTY, body, theme={}))
    assert read.all("script") == []
    assert read.all("img")[0]["alt"] == read.all("svg")[0]["aria-label"] == NASTY
    assert read.text.count(NASTY) == 8


def test_nothing_is_fetched():
    read = Page(page.page("title", [page.image(np.zeros((2, 2, 3), np.uint8), "")], theme={}))
    links = [each.get("src") or each.get("href") for _, each in read.elements]
    assert [link[:5] for link in links if link] == ["data:"] * 2
    assert ("meta", {"charset": "utf-8"}) in read.elements


@pytest.mark.parametrize(
    ("shape", "kind", "size", "small"),
    [
        ((8, 8, 1), "png", (8, 8), True),
        ((64, 64, 3), "png", (64, 64), True),
        ((128, 100, 3), "jpeg", (100, 128), True),
        ((320, 640, 3), "jpeg", (160, 80), False),
        ((5, 3, 4), "png", (3, 5), True),
    ],
)
def test_images_are_part_of_the_page(shape, kind, size, small):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (found,) = Page(page.image(pixels, "name")).all("img")
    head, data = found["src"].split(",")
    assert head == f"data:image/{kind};base64"
    shown = Image.open(io.BytesIO(base64.b64decode(data)))
    assert shown.size == size
    assert (found.get("class") == "small") == small
    if shape[-1] == 3 and kind == "png":
        np.testing.assert_array_equal(np.asarray(shown), pixels)


def test_both_themes_have_every_colour():
    text = page.page("title", [], theme={"ink": ("#111111", "#eeeeee")})
    light, dark = text.split("prefers-color-scheme: dark")
    assert "--ink: #111111" in light and "--ink: #eeeeee" in dark
    for variable in ("ground", "panel", "bad", "warn"):
        assert f"--{variable}: " in light and f"--{variable}: " in dark
