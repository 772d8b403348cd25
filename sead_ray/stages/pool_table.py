"""The prepared pool as selection sees it: free facts of every clip, in columns; frame tokens only of what is bought."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from sead_ray.arrow import compute as pc
from sead_ray.config import RunConfig
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.selection.pool import PoolClip, mean_speed_mps
from sead_ray.selection.strata import table_strata
from sead_ray.stages import layout
from sead_ray.storage import Store

_PLAIN = ("clip_token", "is_night", "is_rainy", "behaviour", "acc_std_mps2", "yaw_sum_rad", "dynamics_source")
_FRAMES = ("frames.list.element.timestamp_us", "frames.list.element.global_from_ego")


@dataclass(frozen=True)
class PoolTable:
    """All clips of the pool, bought or not: one row each, the columns of `selection.PoolClip`."""

    run: Store
    table: pa.Table

    @property
    def n_clips(self) -> int:
        return len(self.table)

    @property
    def n_frames(self) -> int:
        return pc.sum(self.table.column("n_frames")).as_py() or 0

    @cached_property
    def clips(self) -> list[PoolClip]:
        return [PoolClip(**row) for row in self.table.to_pylist()]

    def clip(self, token: str) -> PoolClip | None:
        """One clip's facts; None where the pool does not hold it."""
        found = self.table.filter(pc.equal(self.table.column("clip_token"), token)).to_pylist()
        return PoolClip(**found[0]) if found else None

    @property
    def frame_tokens(self) -> dict[str, list[str]]:
        """Frame tokens of every clip, in order."""
        return self.frame_tokens_of(self.table.column("clip_token").to_pylist())

    def frame_tokens_of(self, clip_tokens: Collection[str]) -> dict[str, list[str]]:
        """Frame tokens of the named clips, in order (for the label request)."""
        wanted = set(clip_tokens)
        found: dict[str, list[str]] = {}
        columns = ["clip_token", "frames.list.element.token"]
        for batch in self.run.iter_batches(layout.CLIPS_FILE, CLIP_SCHEMA, columns):
            keep = pa.array([token in wanted for token in batch.column("clip_token").to_pylist()], pa.bool_())
            for row in batch.filter(keep).to_pylist():
                found[row["clip_token"]] = [frame["token"] for frame in row["frames"]]
        return found

    def lookup(self, column: str, tokens: Collection[str]) -> dict[str, str]:
        """A column's value for each of the named clips."""
        rows = self.table.filter(pc.is_in(self.table.column("clip_token"), pa.array(sorted(tokens), pa.string())))
        return dict(zip(rows.column("clip_token").to_pylist(), rows.column(column).to_pylist()))


def read_pool(run: Store, config: RunConfig) -> PoolTable:
    """All clips of the pool with their strata (Eq. 1 ranks over the whole pool). Images and cameras are not read."""
    table = pa.Table.from_batches(_facts(run))
    strata = table_strata(table, config.select.valuable_ratio) if len(table) else []
    return PoolTable(run, table.append_column("stratum", pa.array(strata, pa.string())))


def _facts(run: Store) -> Iterator[pa.RecordBatch]:
    for batch in run.iter_batches(layout.CLIPS_FILE, CLIP_SCHEMA, [*_PLAIN, "split", *_FRAMES]):
        batch = batch.filter(pc.equal(batch.column("split"), "pool"))
        lengths = pc.list_value_length(batch.column("frames")).to_numpy(zero_copy_only=False).astype(np.int64)
        frames = pc.list_flatten(batch.column("frames"))
        stamps = pc.struct_field(frames, "timestamp_us").to_numpy(zero_copy_only=False)
        poses = pc.list_flatten(pc.struct_field(frames, "global_from_ego")).to_numpy(zero_copy_only=False)
        poses = poses.reshape(len(stamps), 7)
        stops = np.cumsum(lengths)
        speeds = [mean_speed_mps(poses[a:b, :3], stamps[a:b]) for a, b in zip(stops - lengths, stops)]
        yield pa.RecordBatch.from_arrays(
            [*(batch.column(name) for name in _PLAIN), pa.array(lengths, pa.int32()), pa.array(speeds, pa.float64())],
            names=[*_PLAIN, "n_frames", "mean_speed_mps"],
        )
