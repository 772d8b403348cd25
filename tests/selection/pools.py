"""Pools made by hand for the strategies' tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from sead_ray.config import SelectConfig
from sead_ray.records import ClipScore
from sead_ray.selection import Pool, PoolClip
from sead_ray.selection.strata import with_strata

BEHAVIOURS = ("straight", "left", "right", "overtake")
# Short trainings: these tests are on the contract, not on what the networks learn.
QUICK = SelectConfig(vaal_steps=3, activeft_steps=5)


def make_clips(n: int = 40, seed: int = 7) -> list[PoolClip]:
    rng = np.random.default_rng(seed)
    clips = [
        PoolClip(
            clip_token=f"clip-{i:02d}",
            n_frames=int(rng.integers(10, 20)),
            is_night=bool(rng.random() < 0.3),
            is_rainy=bool(rng.random() < 0.3),
            acc_std_mps2=float(rng.random()),
            yaw_sum_rad=float(rng.random()),
            dynamics_source="can" if rng.random() < 0.8 else "pose",
            behaviour=str(rng.choice(BEHAVIOURS)),
            mean_speed_mps=float(rng.random() * 15),
        )
        for i in range(n)
    ]
    return with_strata(clips, 1 / 3)


def make_scores(clips: Sequence[PoolClip], labelled: Sequence[str] = (), seed: int = 8) -> dict[str, ClipScore]:
    """Scores with ties in the shift; every clip has key frames."""
    rng = np.random.default_rng(seed)
    return {
        clip.clip_token: ClipScore(
            clip.clip_token,
            "model",
            "ok",
            n_frames=clip.n_frames,
            n_transitions=clip.n_frames - 1,
            shift_sum=float(rng.integers(0, 6)),
            shift_mean=float(rng.random()),
            shift_agents_sum=float(rng.random()),
            shift_map_sum=float(rng.random()),
            shift_bev_sum=float(rng.random()),
            min_distance_m=[float(rng.random() * 9), float("inf")],
            key_start=2,
            key_length=int(rng.integers(1, 5)),
            embedding=rng.normal(size=6).tolist(),
            displacement_error_m=float(rng.random()),
            soft_collision=float(rng.random()),
            agent_uncertainty=float(rng.random()),
            selectable=clip.clip_token not in labelled,
        )
        for clip in clips
    }


def embedded_pool(features: np.ndarray, labelled: Sequence[int] = (), **settings) -> Pool:
    """A pool that knows nothing but features: clip i is `c0000i`, of 10 frames, or labelled."""
    n = len(features)
    columns: Mapping[str, pa.Array] = {
        "clip_token": pa.array([f"c{i:05d}" for i in range(n)]),
        "n_frames": pa.array([10] * n, pa.int32()),
        "embedding": pa.array(features.tolist(), pa.list_(pa.float32())),
        "selectable": pa.array([i not in set(labelled) for i in range(n)]),
    }
    return Pool.from_table(pa.table(columns), **settings)


def index_of(row) -> int:
    return int(row.clip_token[1:])
