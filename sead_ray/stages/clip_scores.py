"""Scores of clips in hand: what the model's actor computes of a batch, and what is made of it on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sead_ray.config import ScoreConfig
from sead_ray.nuscenes.commands import ego_future
from sead_ray.records import Clip, ClipScore
from sead_ray.scoring.clip_score import failed_score, score_clip
from sead_ray.scoring.features import FrameFeatures, PackedFeatures, pack_features, unpack_features
from sead_ray.scoring.shift import ClipShifts
from sead_ray.stages.attempts import Failure
from sead_ray.stages.clip_runner import LoadedClip, run_clips
from sead_ray.stages.quarantine import STATUS as QUARANTINED


def score_loaded_clips(
    model: Any, version: str, clips: Sequence[LoadedClip], device: str, config: ScoreConfig
) -> list[ClipScore]:
    """Scores decoded clips in this process: the same arithmetic as the pool's, for the service."""
    features = clip_features(model, version, clips, device, config)
    return [_clip_score(clip, frames, version, config) for clip, frames in features]


def clip_features(
    model: Any,
    _version: str,
    clips: Sequence[LoadedClip],
    device: str,
    config: ScoreConfig,
    mark: Callable[[str], None] = lambda _: None,
) -> list[tuple[Clip, list[FrameFeatures]]]:
    """Reduced features of every frame; the clips come back without their images.

    They leave the device together at the end, so that no frame waits for the one before. `mark`: see `run_clips`.
    """
    owners: list[int] = []
    packed: list[PackedFeatures] = []
    for active, features in packed_features(model, clips, device, config, mark):
        packed.append(features)
        owners += active
    frames: list[list[FrameFeatures]] = [[] for _ in clips]
    if packed:
        flat = torch.cat([item.flat for item in packed]).cpu().numpy()
        for index, features in zip(owners, unpack_features(flat, packed[0].shapes)):
            frames[index].append(features)
    return [(loaded.clip, items) for loaded, items in zip(clips, frames)]


def packed_features(
    model: Any,
    clips: Sequence[LoadedClip],
    device: str,
    config: ScoreConfig,
    mark: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[list[int], PackedFeatures]]:
    """Of each frame of the clips in lockstep: which clips have it, and their reduced features, still on the device."""
    commands = _commands_on_device(clips, device)
    bev_hw = model.bev_hw if config.bev_shift else None
    for t, active, output in run_clips(model, clips, device, mark):
        mounting = None
        if config.distance_from == "ego":
            mounting = [clips[index].clip.frames[t].ego_from_lidar.matrix for index in active]
        commanded = commands[t] if len(active) == len(clips) else torch.stack([commands[t, index] for index in active])
        yield active, pack_features(output, commanded, config, mounting, bev_hw)


def _commands_on_device(clips: Sequence[LoadedClip], device: str) -> Tensor:
    """(T, B) int64, in one transfer; 0 behind a clip's end."""
    commands = np.zeros((max((len(loaded.clip.frames) for loaded in clips), default=0), len(clips)), np.int64)
    for column, loaded in enumerate(clips):
        commands[: len(loaded.clip.frames), column] = loaded.arrays.commands
    return torch.from_numpy(commands).to(device)


def _clip_score(
    clip: Any, frames: list[FrameFeatures], version: str, config: ScoreConfig, shifts: ClipShifts | None = None
) -> ClipScore:
    poses = clip.global_from_lidar
    futures = [ego_future(poses, t) for t in range(len(clip.frames))]
    timestamps_us = [frame.timestamp_us for frame in clip.frames]
    return score_clip(clip.clip_token, timestamps_us, frames, futures, version, config, shifts)


def score_features(
    token: str, result: Any, version: str, config: ScoreConfig, shifts: ClipShifts | None = None
) -> ClipScore:
    """Feature shift of one clip (CPU) from what `clip_features` gave for it, or the record of its failure.

    Args:
        shifts: of its frames, where they are known already.
    """
    if isinstance(result, Failure):
        return replace(failed_score(token, version, result.reason), status=QUARANTINED)
    return _clip_score(*result, version, config, shifts)
