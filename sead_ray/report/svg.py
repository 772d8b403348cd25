"""Plots as inline SVG: matplotlib without global state, bytes that depend on the data alone."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#4c545e"
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#c24d00", "#00795a", "#8a4a78", "#555555"
STYLE: Any = {
    "svg.hashsalt": "sead_ray",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e9ecef",
    "axes.edgecolor": "#8a929c",
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.8,
}


_drawing = threading.RLock()  # matplotlib's settings are the process's, and the board draws in several threads


@contextmanager
def styled(**changes: Any) -> Generator[None, None, None]:
    """`STYLE` and `changes` of it for the drawing within the block, one block at a time."""
    settings: Any = {**STYLE, **changes}
    with _drawing, matplotlib.rc_context(settings):
        yield


def new_axes(left: float = 0.13) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.2))  # fixed margins: a layout engine would draw every plot twice more
    return figure, figure.add_axes((left, 0.15, 0.98 - left, 0.75))


def legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=6,
        frameon=False,
        fontsize=9,
        borderaxespad=0.2,
        handlelength=1.7,
        columnspacing=1.1,
    )


def to_svg(figure: Figure, prefix: str, label: str, style: str = "plot") -> Markup:
    """The <svg> element alone, with the CSS class `style`. Ids get a prefix, since all plots share one document."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    text = text.replace("font: 10px 'sans-serif'", "font: 10px sans-serif")
    return Markup(text.replace("<svg ", f'<svg class="{style}" role="img" aria-label="{escape(label)}" ', 1))
