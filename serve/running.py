"""A clip that is scored frame by frame: what is kept of it between frames, and its score so far."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sead_ray.config import ScoreConfig
from sead_ray.nuscenes.commands import ego_future
from sead_ray.nuscenes.images import ImageGeometry
from sead_ray.records import ClipScore, Frame
from sead_ray.scoring.clip_score import failed_score, score_clip
from sead_ray.scoring.features import FrameFeatures
from sead_ray.scoring.shift import ClipShifts, extended_shifts
from sead_ray.stages.frame_step import frame_input
from serve.errors import ApiError
from serve.scorer import Scorer


@dataclass
class RunningClip:
    """Of the frames so far: their records and reduced features, and of the last one the BEV. No image is kept."""

    clip_token: str
    model_version: str
    config: ScoreConfig
    frames: list[Frame] = field(default_factory=list)
    features: list[FrameFeatures] = field(default_factory=list)
    shifts: ClipShifts | None = None
    history: Tensor | None = None

    async def add(self, scorer: Scorer, frame: Frame, images: NDArray[np.uint8], geometry: ImageGeometry) -> None:
        """Runs the next frame; where that fails, nothing has changed.

        Raises:
            ApiError: 409 where another model answers than began the clip.
        """
        before = self.frames[-1] if self.frames else None
        given = frame_input(frame, before, images, geometry, int(frame.command))
        step = await scorer.step(given, self.history)
        if step.model_version != self.model_version:
            raise ApiError(409, "The model was changed since the first frame; send the clip again from its start.")
        features, frames = [*self.features, step.features], [*self.frames, frame]
        stamps = [item.timestamp_us for item in frames]
        shifts = None  # of NaN there are none; `score` says so
        if all(item.is_finite() for item in features):
            shifts = await asyncio.to_thread(extended_shifts, self.shifts, features, stamps, self.config)
        self.features, self.frames, self.shifts, self.history = features, frames, shifts, step.history

    def score(self) -> ClipScore:
        """As of a whole clip of these frames."""
        if not self.frames:
            return failed_score(self.clip_token, self.model_version, f"Clip {self.clip_token} has no frame yet.")
        poses = np.stack([frame.global_from_lidar for frame in self.frames])
        futures = [ego_future(poses, t) for t in range(len(poses))]
        stamps = [frame.timestamp_us for frame in self.frames]
        return score_clip(self.clip_token, stamps, self.features, futures, self.model_version, self.config, self.shifts)
