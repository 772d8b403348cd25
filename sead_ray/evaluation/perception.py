"""Perception beside planning: what each clip's frames add to the detection, map and motion metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sead_ray.evaluation.detection_frames import FrameDetections, clip_detections
from sead_ray.evaluation.map_ap import LineMatches, match_lines, summarise_map
from sead_ray.evaluation.motion import MotionCounts, motion_counts, summarise_motion
from sead_ray.evaluation.predictions import FramePrediction
from sead_ray.records import Clip, FrameLabels
from sead_ray.targets import FrameTargets


@dataclass(frozen=True)
class ClipPerception:
    """One clip reduced to a few kilobytes a frame: motion and map are counted already, boxes wait for the split's
    ranking by score."""

    clip_token: str
    motion: list[dict[str, MotionCounts]]
    lines: list[LineMatches]
    detections: list[FrameDetections]


def clip_perception(
    clip: Clip,
    predictions: Sequence[FramePrediction],
    targets: Sequence[FrameTargets],
    labels: Mapping[str, FrameLabels],
) -> ClipPerception:
    """Compares the predictions of a clip's T frames with its labels.

    Args:
        targets: of each frame, with lidar points (`build_targets(..., points="lidar")`): motion knows only these.
        labels: of every frame of the clip.
    """
    frames = list(zip(clip.frames, predictions, targets, strict=True))
    return ClipPerception(
        clip_token=clip.clip_token,
        motion=[motion_counts(prediction, target) for _, prediction, target in frames],
        lines=[
            match_lines(
                prediction.lines_m, prediction.line_scores, prediction.line_labels, labels[frame.token].map_vectors
            )
            for frame, prediction, _ in frames
        ],
        detections=clip_detections(clip, predictions, labels),
    )


def map_and_motion_report(clips: Sequence[ClipPerception]) -> dict[str, Any]:
    """{"map": `summarise_map`, "motion": `summarise_motion`} over all frames of all clips."""
    return {
        "map": summarise_map([lines for clip in clips for lines in clip.lines]),
        "motion": summarise_motion([counts for clip in clips for counts in clip.motion]),
    }
