"""Feature shift over a clip's time, as in the paper's Figure 3: agents, map, and which frames are key frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sead_ray.report.svg import BLUE, INK, ORANGE, PURPLE, styled, to_svg


def shift_trace(
    agents: Sequence[float],
    maps: Sequence[float],
    is_key: Sequence[bool],
    name: str,
    times_s: Sequence[float] = (),
    prefix: str = "trace",
) -> Markup:
    """Eq. 2 of each transition, at the time at which it ends; key frames as hatched bands.

    Shifts have one value a transition; transition i ends at frame i + 1 unless the clip has a gap, and then the axis
    counts transitions and no band is drawn.

    Args:
        times_s: of the frames, from the clip's start.
        prefix: of the drawing's ids, unique on the page.
    """
    n_steps = max(len(agents), len(maps))
    aligned = len(times_s) == n_steps + 1 == len(is_key)
    at = np.asarray(times_s[1:] if aligned else range(1, n_steps + 1), float)
    with styled(**{"font.size": 9}):
        figure = Figure(figsize=(6.4, 1.9))
        axes = figure.add_axes((0.075, 0.24, 0.895, 0.63))
        if aligned:
            half = 0.5 * float(np.median(np.diff(times_s)))
            for start, stop in _runs(is_key):
                axes.axvspan(
                    times_s[start] - half, times_s[stop - 1] + half,
                    facecolor="#fdebdd", edgecolor="#e9b58d", hatch="///", linewidth=0,
                )  # fmt: skip
            axes.set_xlim(times_s[0], times_s[-1])
        for values, color, dashes, label in ((agents, BLUE, "-", "agents"), (maps, PURPLE, "--", "map")):
            finite = np.where(np.isfinite(np.asarray(values, float)), np.asarray(values, float), np.nan)
            axes.plot(at[: len(finite)], finite, color=color, linestyle=dashes, linewidth=1.8, label=label)
        if aligned and any(is_key):
            axes.plot([], [], color=ORANGE, linewidth=5, alpha=0.4, label="key frames")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.set_xlabel("time (s)" if aligned else "transition", color=INK)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=3, frameon=False, fontsize=9)
        finite = [value for value in (*agents, *maps) if np.isfinite(value)]
        label = f"Feature shift of {name} over the clip; the largest value is {max(finite, default=0.0):.3g}"
        return to_svg(figure, prefix, label, "trace")


def _runs(flags: Sequence[bool]) -> list[tuple[int, int]]:
    """[start, stop) of each run of True."""
    padded = np.concatenate([[False], np.asarray(flags, bool), [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))
