"""Which reduction of the queries keeps the ranking of clips: feature shift under several, against the unreduced one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from sead_ray.config import ScoreConfig
from sead_ray.scoring.features import reduce_queries
from sead_ray.scoring.shift import earth_movers_distances, nominal_transitions

KS = (1, 4, 16, 64, 256)
AGREEMENT = 0.95  # Spearman; the rule by which the project's k is chosen
ENOUGH_CLIPS = 500


@dataclass(frozen=True)
class Reduction:
    """One way to make the earth mover's distance affordable; `k` None: not at all."""

    pool_over: Literal["channels", "queries"]
    k: int | None

    @property
    def name(self) -> str:
        return "unreduced" if self.k is None else f"{self.pool_over}, k = {self.k}"


@dataclass(frozen=True)
class AblationRow:
    """One line of the table: milliseconds for a frame's agents and map, rank correlation of the clips' shifts with the
    unreduced ones, and the mean shift of a transition."""

    reduction: str
    pool_over: str
    k: int | None
    n_clips: int
    ms_per_frame: float
    spearman: float
    mean_shift: float


def reductions(n_channels: int) -> list[Reduction]:
    """The unreduced one first; channels cannot be pooled to more than there are."""
    channels = [Reduction("channels", k) for k in KS if k <= n_channels]
    return [Reduction("channels", None), *channels, *(Reduction("queries", k) for k in KS)]


def clip_reductions(
    agents: NDArray[np.float32], maps: NDArray[np.float32], timestamps_us: Sequence[int], config: ScoreConfig
) -> tuple[int, list[float], list[float]]:
    """Eq. 3 of one clip under every reduction.

    Args:
        agents: (T, N, C) queries of the last layer; maps: (T, M, C), the mean of each instance's points.

    Returns:
        (number of transitions, shift of each reduction, seconds of each, reduction and distances together).
    """
    transitions = nominal_transitions(timestamps_us, config)
    transitions = transitions[transitions >= config.warmup_frames]
    sums, seconds = [], []
    for reduction in reductions(agents.shape[2]):
        started = time.perf_counter()
        total = 0.0
        for queries in (agents, maps):
            reduced = _reduce(queries, reduction, config)
            total += float(earth_movers_distances(reduced[transitions + 1], reduced[transitions]).sum())
        sums.append(total)
        seconds.append(time.perf_counter() - started)
    return len(transitions), sums, seconds


def ablation_table(
    n_channels: int, transitions: NDArray[np.int64], sums: NDArray[np.float64], seconds: NDArray[np.float64]
) -> list[AblationRow]:
    """One row a reduction, from (clips,) numbers of transitions and (clips, reductions) shifts and seconds."""
    rows = []
    for index, reduction in enumerate(reductions(n_channels)):
        rows.append(
            AblationRow(
                reduction=reduction.name,
                pool_over=reduction.pool_over,
                k=reduction.k,
                n_clips=len(sums),
                ms_per_frame=float(1000 * seconds[:, index].sum() / transitions.sum()),
                spearman=_rank_correlation(sums[:, index], sums[:, 0]),
                mean_shift=float(sums[:, index].sum() / transitions.sum()),
            )
        )
    return rows


def decide(rows: Sequence[AblationRow]) -> str:
    """What the rule says: the smallest k over channels whose ranking agrees with the unreduced one."""
    good = [row for row in rows if row.pool_over == "channels" and row.k is not None and row.spearman >= AGREEMENT]
    n_clips = rows[0].n_clips
    less = "" if n_clips >= ENOUGH_CLIPS else f" This is provisional: the rule asks for {ENOUGH_CLIPS} clips."
    if not good:
        return f"No k reaches a Spearman of {AGREEMENT} on {n_clips} clips.{less}"
    best = min(good, key=lambda row: row.k or 0)
    return f"score.reduce_to {best.k}: the smallest k with Spearman >= {AGREEMENT} on {n_clips} clips.{less}"


def markdown(rows: Sequence[AblationRow]) -> str:
    lines = ["| reduction | ms a frame | Spearman with unreduced | mean shift |", "|---|---:|---:|---:|"]
    lines += [
        f"| {row.reduction} | {row.ms_per_frame:.2f} | {row.spearman:.3f} | {row.mean_shift:.4g} |" for row in rows
    ]
    return "\n".join(lines)


def _reduce(queries: NDArray[np.float32], reduction: Reduction, config: ScoreConfig) -> NDArray[np.float32]:
    if reduction.k is None:
        return queries
    wanted = config.model_copy(update={"pool_over": reduction.pool_over, "reduce_to": reduction.k})
    return reduce_queries(torch.from_numpy(queries), wanted).numpy()


def _rank_correlation(values: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Spearman; NaN where either says nothing (all values equal, or a single clip)."""
    if len(values) < 2 or np.ptp(values) == 0 or np.ptp(reference) == 0:
        return float("nan")
    return float(spearmanr(values, reference).statistic)
