"""The pool as selection sees it, read in columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from sead_ray.config import RunConfig
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.selection import PoolClip
from sead_ray.stages import layout
from sead_ray.stages.pool_table import read_pool
from sead_ray.storage import Store
from tests.hand_made import make_clip


def test_columns_hold_what_the_clips_say(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    clips = [make_clip("a", 3), make_clip("v", 4, split="val"), make_clip("b", 5)]
    run.write_table(layout.CLIPS_FILE, [clip.to_row() for clip in clips], CLIP_SCHEMA, group=1)
    pool = read_pool(run, RunConfig())
    assert (pool.n_clips, pool.n_frames) == (2, 8)
    for mine, clip in zip(pool.clips, (clips[0], clips[2])):
        expected = PoolClip.from_clip(clip)
        assert mine.stratum
        assert {**vars(mine), "stratum": ""} == vars(expected)
    assert pool.clips[0].mean_speed_mps == pytest.approx(2.0)  # 1 m each half second
    assert pool.frame_tokens_of(["b"]) == {"b": [f"b-f{i}" for i in range(5)]}
    assert set(pool.frame_tokens) == {"a", "b"}
    assert pool.lookup("n_frames", ["b", "nobody"]) == {"b": 5}


def test_a_file_without_pool_clips(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    run.write_table(layout.CLIPS_FILE, [make_clip("v", 4, split="val").to_row()], CLIP_SCHEMA)
    pool = read_pool(run, RunConfig())
    assert (pool.n_clips, pool.n_frames, pool.clips) == (0, 0, [])
