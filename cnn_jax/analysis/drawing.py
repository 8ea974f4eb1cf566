"""One look for every figure: matplotlib's objects without pyplot, saved as PNG and as themed SVG.

A figure is drawn in the colours of the light theme. Its PNG has a white ground; in its SVG every
colour is a CSS variable with the drawn one as default, so that a page sets it for its own theme,
and a file by itself follows the reader's. Text stays text.
"""

import io
import re
import unicodedata
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

INK, MUTED, GRID, ON_HEAT = "#1f2329", "#6b7480", "#dde1e6", "#fffffe"
# Okabe and Ito's colours, told apart by colour-blind people too, without the two palest.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b")
HEAT = SERIES[0]
_DARK_SERIES = ("#58a9e8", "#ff9148", "#3dcc9f", "#e59cc6", "#f2bd4a", "#9bd3ff", "#c9ab77")
_FONT, _WIDTH, _DPI = "DejaVu Sans", 4.8, 200
_METADATA = ("Date", "Creator", "Format", "Type")

# variable: (light, dark)
THEME = {
    "ink": (INK, "#e8eaed"),
    "muted": (MUTED, "#9aa4b0"),
    "grid": (GRID, "#30363d"),
    **{f"series-{i}": pair for i, pair in enumerate(zip(SERIES, _DARK_SERIES, strict=True))},
}

_STYLE = {
    "font.family": [_FONT],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.06,
    "svg.fonttype": "none",
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Returns a drawing function that draws in the project's style."""

    @wraps(draw)
    def drawing(*args, **options) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **options)

    return drawing


def new_figure(height: float = 3.0, *, rows: tuple[float, ...] = (1,)) -> tuple[Figure, list[Axes]]:
    """Returns a figure narrow enough for a phone, and its axes, from top to bottom.

    Args:
      height: in inches; the width is always the same.
      rows: the heights of the axes relative to each other.
    """
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows)
    return figure, list(axes[:, 0])


def rendered(figure: Figure, name: str) -> tuple[bytes, str]:
    """Returns a figure as PNG on white and as an SVG element; the same for the same figure.

    In the SVG colours are CSS variables and identifiers are unique to `name`, so that figures of
    several names can stand on one page.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        # Drawn by the canvases themselves: print_figure would draw each format twice.
        figure.set(dpi=_DPI, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        png = io.BytesIO()
        Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(png, "png")
        figure.set_layout_engine("none")  # what the first drawing found holds for the second
        figure.set(dpi=72, facecolor="none")
        svg = io.StringIO()
        FigureCanvasSVG(figure).print_svg(svg, metadata=dict.fromkeys(_METADATA))
    return png.getvalue(), _themed(svg.getvalue())


def _themed(text: str) -> str:
    """Returns matplotlib's SVG file as an element whose colours and font a page can set."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # numbered alike in every figure
    text = re.sub(r"font: ([^;\"]*px) [^;\"]*", r"font: \1 system-ui, sans-serif", text)
    for variable, (light, _) in THEME.items():
        text = text.replace(f": {light}", f": var(--{variable}, {light})")
    return text


def save(figure: Figure, path: Path) -> str:
    """Writes PATH.png and PATH.svg; returns the SVG element."""
    png, svg = rendered(figure, path.name)
    path.with_suffix(".png").write_bytes(png)
    dark = " ".join(f"--{variable}: {value};" for variable, (_, value) in THEME.items())
    style = f"<style>@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}</style>"
    head, end, rest = svg.partition(">")
    path.with_suffix(".svg").write_text(f"{head}{end}\n {style}{rest}", encoding="utf-8")
    return svg


def label(text: str, *, instead: str, most: int = 14) -> str:
    """Returns a text cut to `most` characters, or `instead` where matplotlib can't draw it right.

    >>> label("a long name of a class", instead="3"), label("猫", instead="4")
    ('a long name o…', '4')
    """
    text = " ".join(text.split())
    if not text or not all(_drawable(character) for character in text):
        return instead
    return text if len(text) <= most else text[: most - 1] + "…"


def _drawable(character: str) -> bool:
    """Whether the font has it, and it needs neither shaping nor another direction."""
    plain = unicodedata.bidirectional(character) not in ("R", "AL", "AN")
    return plain and not unicodedata.combining(character) and ord(character) in _characters()


@cache
def _characters() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont(_FONT)).get_charmap())
