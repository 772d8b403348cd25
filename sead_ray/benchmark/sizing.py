"""How long a pool takes on how many GPUs, from measured rates."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from sead_ray.config import Schema

# Frames a second of one GPU with VAD-Tiny, from JPEGs; the tables of docs/clusters.md follow from these.
SCORING_FPS = [225.0, 266.0]  # docs/benchmarks/scoring_gpu.md: one H100 by default, one H200 in bf16
TRAINING_FPS = [46.6, 58.1]  # docs/benchmarks/training_gpu.md: each of four H100, one H200


class Sizing(Schema):
    """Measured rates, and what they are wanted for."""

    scoring_fps: list[float] = Field(default=SCORING_FPS)
    """Frames a second that one GPU scores end to end; of several, the lowest and the highest are shown. The defaults
    are of VAD-Tiny on H100 and H200 (docs/benchmarks/scoring_gpu.md)."""
    training_fps: list[float] = Field(default=TRAINING_FPS)
    """Frames a second that one GPU trains; []: no table of training. The defaults are of VAD-Tiny on H100
    and H200 (docs/benchmarks/training_gpu.md)."""
    efficiency: float = Field(default=1.0, gt=0, le=1)
    """Of a GPU among many, against one alone."""
    frames: int = Field(default=40, ge=1)
    """A clip."""
    epochs: int = Field(default=20, ge=1)
    clips: list[int] = Field(default=[850, 10_000, 100_000, 1_000_000])
    gpus: list[int] = Field(default=[1, 4, 8, 32])


def sizing_tables(sizing: Sizing) -> str:
    """Markdown: hours to score, and where its rate is known, to train on all frames of so many clips."""
    tables = [_table("score", sizing, sizing.scoring_fps, passes=1)]
    if sizing.training_fps:
        tables.append(_table(f"train {sizing.epochs} epochs", sizing, sizing.training_fps, passes=sizing.epochs))
    return "\n\n".join(tables)


def _table(what: str, sizing: Sizing, rates: Sequence[float], passes: int) -> str:
    head = [f"{what}: clips (frames)", *(f"{number} GPU{'s' * (number > 1)}" for number in sizing.gpus)]
    rows = [head, ["---", *["---:"] * len(sizing.gpus)]]
    for clips in sizing.clips:
        frames = clips * sizing.frames
        row = [f"{clips:,} ({frames:,})"]
        for gpus in sizing.gpus:
            pace = gpus if gpus == 1 else gpus * sizing.efficiency
            row.append(_span([frames * passes / (rate * pace) for rate in sorted(rates, reverse=True)]))
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _span(seconds: Sequence[float]) -> str:
    """The shortest and the longest, in minutes up to one and a half hours."""
    low, high = seconds[0], seconds[-1]
    if high < 60:
        return "under 1 min"
    unit, scale = ("min", 60.0) if high < 5400 else ("h", 3600.0)
    texts = [f"{value / scale:.1f}" if value / scale < 10 else f"{value / scale:.0f}" for value in (low, high)]
    return f"{texts[0]} {unit}" if texts[0] == texts[1] else f"{texts[0]}–{texts[1]} {unit}"
