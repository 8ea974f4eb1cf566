"""Self-contained HTML pages: no script, no network, light and dark, for a desk and for a phone.

Whatever is not `Html` already is escaped where it is put into a page.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cnn_jax.analysis.figures import picture

_LARGEST_IMAGE = 160  # pixels; larger ones are scaled down, smaller ones shown enlarged
_WITHOUT_END = ("br", "img", "link", "meta")
_THEMES = {
    "light": {"ground": "#ffffff", "panel": "#f5f7f9", "bad": "#b3261e", "warn": "#fff3d6"},
    "dark": {"ground": "#101418", "panel": "#191f26", "bad": "#ff8a80", "warn": "#3d3114"},
}
_CSS = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px 20px 64px; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 28px; line-height: 1.2; margin: 8px 0 4px; }
h2 { font-size: 20px; margin: 48px 0 12px; }
h3 { font-size: 16px; margin: 28px 0 8px; }
p { margin: 6px 0; max-width: 75ch; }
.note, figcaption, dt, th { color: var(--muted); }
.note { font-size: 14px; }
.notice { background: var(--warn); border-radius: 8px; padding: 10px 14px; margin: 12px 0;
  max-width: none; }
.tiles { display: grid; gap: 12px; margin: 20px 0; padding: 0;
  grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
.tiles div { background: var(--panel); border-radius: 8px; padding: 12px 14px; }
.tiles dt { font-size: 14px; }
.tiles dd { margin: 0; font-size: 22px; font-weight: 600; }
.tiles dd small { display: block; color: var(--muted); font-size: 13px; font-weight: 400; }
.columns { display: grid; gap: 20px 32px; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); }
.columns > * { margin: 0; min-width: 0; }
.columns h3 { margin-top: 8px; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { font-size: 14px; }
.scroll { overflow-x: auto; margin: 8px 0; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th { font-weight: 500; text-align: left; vertical-align: bottom; }
th, td { padding: 5px 16px 5px 0; border-bottom: 1px solid var(--grid); }
td { vertical-align: top; max-width: 26em; }
th, td { overflow-wrap: break-word; }
th.number, td.number { text-align: right; white-space: nowrap; }
.bar { display: inline-block; width: 64px; height: 8px; margin-left: 8px; border-radius: 4px;
  background: var(--grid); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--series-0); }
.images { display: grid; gap: 16px 12px; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(112px, 1fr)); }
.images figure { margin: 0; }
.images img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain;
  background: var(--panel); border-radius: 6px; }
img.small { image-rendering: pixelated; }
.images figcaption { margin-top: 4px; font-size: 13px; line-height: 1.35; }
.wrong { color: var(--bad); }
b { font-weight: 600; color: var(--ink); }
pre { background: var(--panel); border-radius: 8px; padding: 12px 14px; overflow-x: auto;
  font-size: 13px; line-height: 1.45; }
code, pre { font-family: ui-monospace, monospace; }
pre.command { white-space: pre-wrap; }
summary { cursor: pointer; color: var(--muted); margin: 12px 0; }
@media (max-width: 600px) { body { padding: 16px 16px 48px; } h2 { margin-top: 36px; }
  .tiles { grid-template-columns: 1fr 1fr; } .tiles dd { font-size: 19px; }
  .images { grid-template-columns: repeat(3, 1fr); } .bar { display: none; }
  th, td { padding-right: 12px; max-width: 11em; } }
@media print { body { max-width: none; } }
"""


class Html(str):
    """Text that is HTML already."""


def html(value: Any) -> Html:
    """Returns a value as HTML.

    >>> html("a < b"), html(Html("<b>"))
    ('a &lt; b', '<b>')
    """
    return value if isinstance(value, Html) else Html(escape(str(value)))


def tag(name: str, *children: Any, **attributes: Any) -> Html:
    """Returns an element; `class_` is the attribute class.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    pairs = {key.rstrip("_"): escape(str(value)) for key, value in attributes.items()}
    opening = " ".join([name, *(f'{key}="{value}"' for key, value in pairs.items())])
    if name in _WITHOUT_END:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{''.join(map(html, children))}</{name}>")


def name(text: str) -> Html:
    """Returns a name that may be of any script, kept apart from the direction of what is around."""
    return tag("bdi", text)


def table(
    header: Sequence[Any], rows: Iterable[Sequence[Any]], *, numbers: Iterable[int] = ()
) -> Html:
    """Returns a table that scrolls where it is too wide; columns `numbers` are aligned right."""
    right = {i: {"class_": "number"} for i in numbers}

    def cells(kind: str, row: Sequence[Any]) -> Html:
        return tag("tr", *(tag(kind, cell, **right.get(i, {})) for i, cell in enumerate(row)))

    head = tag("thead", cells("th", header))
    body = tag("tbody", *(cells("td", row) for row in rows))
    return tag("div", tag("table", head, body), class_="scroll")


def share_bar(share: float) -> Html:
    """Returns a share as a percentage with a bar."""
    bar = tag("span", tag("i", style=f"width:{share:.0%}"), class_="bar")
    return Html(f"{share:.1%}{bar}")


def tiles(facts: Mapping[str, tuple[str, str]]) -> Html:
    """Returns the main facts as {what: (value, remark)} in large letters."""
    each = (
        tag("div", tag("dt", key), tag("dd", value, tag("small", remark)))
        for key, (value, remark) in facts.items()
    )
    return tag("dl", *each, class_="tiles")


def figure(svg: str, caption: str) -> Html:
    """Returns an SVG element with its caption."""
    labelled = svg.replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1)
    return tag("figure", Html(labelled), tag("figcaption", caption))


def columns(*blocks: Html) -> Html:
    """Returns blocks side by side where the page is wide enough, else below each other."""
    return tag("div", *blocks, class_="columns")


def image(pixels: UInt8[np.ndarray, "h w c"], alternative: str) -> Html:
    """Returns an image, itself part of the page."""
    shown = picture(pixels)
    small = max(shown.size) <= _LARGEST_IMAGE
    shown.thumbnail((_LARGEST_IMAGE, _LARGEST_IMAGE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    kind, options = ("png", {}) if max(shown.size) <= 64 else ("jpeg", {"quality": 88})
    shown.save(file, kind, **options)
    source = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
    extra = {"class_": "small"} if small else {}
    return tag("img", src=source, alt=alternative, **extra)


def page(title: str, body: Iterable[Any], *, theme: Mapping[str, tuple[str, str]]) -> str:
    """Returns a whole page; `theme` is {CSS variable: (its value in light, in dark)}."""
    light, dark = (
        _variables(colors | {key: pair[i] for key, pair in theme.items()})
        for i, colors in enumerate(_THEMES.values())
    )
    style = (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}{_CSS}"
    )
    head = "".join(
        [
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            tag("title", title),
            f"<style>{style}</style>",
        ]
    )
    content = tag("main", *body)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{content}</body></html>\n'


def _variables(colors: Mapping[str, str]) -> str:
    return " ".join(f"--{key}: {value};" for key, value in colors.items())
