"""How sure a planning metric is: its val clips drawn anew, with replacement. Frames of a clip are no independent draws.

Shape legend: n val clips, H = 4 horizons (1, 2, 3 s and their mean), R resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sead_ray.evaluation.planning import FramePlanning, summarise

CONFIDENCE = 0.95
RESAMPLES = 2000
HORIZONS = ("1s", "2s", "3s", "avg")
METRICS = ("l2_m", "collision_percent")
FEWEST_CLIPS = 3  # of fewer, an interval says nothing

Interval = tuple[float, float]


def clip_summaries(records: Iterable[FramePlanning]) -> dict[str, dict[str, Any]]:
    """Of each clip with a valid frame: {"n_frames", "l2_m": [H], "collision_percent": [H]}, the means over its frames.

    Weighted by `n_frames`, they give back `summarise` of all records.
    """
    by_clip: dict[str, list[FramePlanning]] = {}
    for record in records:
        by_clip.setdefault(record.clip_token, []).append(record)
    found = {}
    for token in sorted(by_clip):
        summary = summarise(by_clip[token])
        if summary["n_frames"]:
            values = {metric: [summary[metric][name] for name in HORIZONS] for metric in METRICS}
            found[token] = {"n_frames": summary["n_frames"], **values}
    return found


def intervals(clips: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Interval]]:
    """95 % percentile intervals by metric and horizon; empty for fewer than `FEWEST_CLIPS` clips."""
    if len(clips) < FEWEST_CLIPS:
        return {}
    tokens = sorted(clips)
    return {metric: _by_horizon(_means(clips, tokens, metric)) for metric in METRICS}


def paired_differences(
    mine: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Interval]]:
    """95 % intervals of mine minus theirs, both on the same clips in every resample; empty where the clips differ."""
    if mine.keys() != theirs.keys() or len(mine) < FEWEST_CLIPS:
        return {}
    tokens = sorted(mine)
    return {metric: _by_horizon(_means(mine, tokens, metric) - _means(theirs, tokens, metric)) for metric in METRICS}


def _means(clips: Mapping[str, Mapping[str, Any]], tokens: Sequence[str], metric: str) -> NDArray[np.float64]:
    """(R, H) frame-weighted means; the draws depend on the number of clips alone, so that runs can be paired."""
    weights = np.array([clips[token]["n_frames"] for token in tokens], float)
    values = np.array([clips[token][metric] for token in tokens], float)
    n = len(tokens)
    draws = np.random.default_rng(n).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) * weights
    return draws @ values / draws.sum(axis=1, keepdims=True)


def _by_horizon(means: NDArray[np.float64]) -> dict[str, Interval]:
    low, high = np.quantile(means, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(HORIZONS)}
