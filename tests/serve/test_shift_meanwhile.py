"""Shifts that are computed beside the model: those of the whole clip, each clip's own, and no thread left behind."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from sead_ray.config import ImageConfig, ScoreConfig
from sead_ray.scoring.features import PackedFeatures
from sead_ray.scoring.shift import clip_shifts
from sead_ray.stages.clip_runner import LoadedClip
from sead_ray.stages.noise_clip import noise_clip
from serve.canary import canary_clip
from serve.shift_meanwhile import ShiftMeanwhile

SHAPES: dict[str, tuple[int, ...]] = {
    "agents": (7, 4),
    "map_instances": (5, 4),
    "nearest_distance_m": (),
    "max_confidence": (),
    "planned_path_m": (6, 2),
    "embedding": (3,),
    "soft_collision": (),
    "agent_uncertainty": (),
}
WIDTH = sum(int(np.prod(shape)) for shape in SHAPES.values())


def clip_of(n_frames: int) -> LoadedClip:
    return replace(canary_clip(ImageConfig(width=32)), clip=noise_clip(f"of-{n_frames}", n_frames, 160, 90))


def packed(rows: int, seed: int) -> PackedFeatures:
    return PackedFeatures(torch.rand(rows, WIDTH, generator=torch.Generator().manual_seed(seed)), SHAPES)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("warmup", [0, 2])
def test_as_of_the_whole_clip(warmup: int):
    config, clips = ScoreConfig(warmup_frames=warmup), [clip_of(5), clip_of(3)]
    with ShiftMeanwhile(clips, "cpu", config) as shifts:
        for t in range(5):
            active = [0, 1] if t < 3 else [0]
            shifts.take(active, packed(len(active), t))
        results = shifts.results()
    assert "shift-meanwhile" not in threads()
    for (clip, frames, found), loaded in zip(results, clips, strict=True):
        assert clip is loaded.clip
        stamps = [frame.timestamp_us for frame in clip.frames]
        expected = clip_shifts(frames, stamps, config)
        assert found is not None
        np.testing.assert_array_equal(found.agents, expected.agents)
        np.testing.assert_array_equal(found.map_instances, expected.map_instances)
        assert (found.total, found.n_transitions) == (pytest.approx(expected.total), expected.n_transitions)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_clip_without_finite_numbers_has_none_and_harms_no_other(at: int):
    with ShiftMeanwhile([clip_of(4), clip_of(4)], "cpu", ScoreConfig()) as shifts:
        for t in range(4):
            features = packed(2, t)
            if t == at:
                features.flat[0, 0] = torch.nan
            shifts.take([0, 1], features)
        (_, frames, none), (_, _, some) = shifts.results()
    assert none is None
    assert len(frames) == 4
    assert some is not None


def test_its_faults_are_raised_and_leaving_early_ends_the_thread():
    with ShiftMeanwhile([clip_of(2)], "cpu", ScoreConfig()) as shifts:
        shifts.take([1], packed(1, 0))
        with pytest.raises(IndexError):
            shifts.results()
    with ShiftMeanwhile([clip_of(2)], "cpu", ScoreConfig()) as shifts:
        shifts.take([0], packed(1, 0))
    assert "shift-meanwhile" not in threads()
