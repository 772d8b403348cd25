"""What a strategy sees: the clips of one round as columns, read in batches. Nothing here costs an annotation.

A pool may be larger than memory: `Pool.batches` streams the columns that are asked for, in any order, and every
strategy gives the same rows whatever that order is. `Pool.table` is for strategies that need all clips at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
from numpy.typing import NDArray

from sead_ray.arrow import compute as pc
from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.records import Clip, ClipScore, Selection
from sead_ray.selection.budget import Budget

BATCH_ROWS = 131_072
DEFAULTS = SelectConfig()

_FROM_SCORES = (
    *("model_version", "status", "n_transitions", "shift_sum", "shift_mean", "shift_agents_sum", "shift_map_sum"),
    *("shift_bev_sum", "key_start", "key_length", "embedding", "displacement_error_m", "soft_collision"),
    *("agent_uncertainty", "min_distance_m", "max_confidence"),
)


@dataclass(frozen=True)
class PoolClip:
    """What free data say of one clip. `stratum` is filled by `strata.with_strata` on the whole pool; "" if unknown."""

    clip_token: str
    n_frames: int
    is_night: bool
    is_rainy: bool
    acc_std_mps2: float
    yaw_sum_rad: float
    dynamics_source: str  # can | pose
    behaviour: str  # straight | left | right | overtake
    stratum: str = ""
    mean_speed_mps: float = 0.0

    @classmethod
    def from_clip(cls, clip: Clip) -> PoolClip:
        positions_m = np.stack([frame.global_from_ego.translation_m for frame in clip.frames])
        return cls(
            clip_token=clip.clip_token,
            n_frames=len(clip.frames),
            is_night=clip.is_night,
            is_rainy=clip.is_rainy,
            acc_std_mps2=clip.acc_std_mps2,
            yaw_sum_rad=clip.yaw_sum_rad,
            dynamics_source=clip.dynamics_source,
            behaviour=clip.behaviour,
            mean_speed_mps=mean_speed_mps(positions_m, np.array([frame.timestamp_us for frame in clip.frames])),
        )


def mean_speed_mps(positions_m: NDArray[np.float64], timestamps_us: NDArray[np.int64]) -> float:
    """Length of the way through (T, 2 or 3) recorded positions over the time it took; 0 for a single frame."""
    seconds = float(timestamps_us[-1] - timestamps_us[0]) * 1e-6 if len(timestamps_us) else 0.0
    way_m = float(np.linalg.norm(np.diff(positions_m[:, :2], axis=0), axis=1).sum())
    return way_m / seconds if seconds > 0 else 0.0


@dataclass(frozen=True)
class Pool:
    """The clips of a round: those that may be bought, and the labelled ones where a strategy needs their features.

    Attributes:
        read: streams batches with the named columns; each clip once, in any order.
        columns: what `read` can give: `clip_token`, `n_frames`, and names of `PoolClip`, `ClipScore` and of features.
        labelled: clips bought in earlier rounds: their features count, they are never selected again. So are those
            whose own column `selectable` says no.
        excluded: clips that nothing may use: quarantined, or excluded by the user.
        round: number written to each row.
        rank_by: `ScoreConfig.rank_by`: whether a clip's feature shift is the sum (Eq. 3) or the mean over its
            transitions.
    """

    read: Callable[[list[str]], Iterator[pa.RecordBatch]]
    columns: frozenset[str]
    labelled: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    round: int = 0
    rank_by: Literal["sum", "mean"] = "sum"
    _arrays: dict[frozenset[str], pa.Array] = field(default_factory=dict, compare=False, repr=False)

    def batches(self, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
        """Batches of `clip_token`, `columns` and a boolean `selectable`; excluded clips are left out.

        Raises:
            InputError: the pool does not hold a column.
        """
        names = list(dict.fromkeys(["clip_token", *columns]))
        missing = [name for name in names if name not in self.columns]
        if missing:
            hint = "score the pool first" if set(missing) & set(_FROM_SCORES) else "prepare the clips again"
            raise InputError(
                f"The strategy needs {', '.join(missing)} of the pool's clips, which is not there: {hint}."
            )
        own = ["selectable"] if "selectable" in self.columns else []
        for batch in self.read(names + own):
            tokens = batch.column("clip_token")
            if self.excluded:
                kept = pc.invert(pc.is_in(tokens, self._array(self.excluded)))
                batch, tokens = batch.filter(kept), tokens.filter(kept)
            selectable = batch.column("selectable") if own else pa.repeat(True, len(batch))
            if self.labelled:
                selectable = pc.and_(selectable, pc.invert(pc.is_in(tokens, self._array(self.labelled))))
            yield pa.RecordBatch.from_arrays(
                [*(batch.column(name) for name in names), selectable], names=[*names, "selectable"]
            )

    def table(self, columns: Collection[str]) -> pa.Table:
        """All clips, sorted by token.

        Raises:
            InputError: a token twice.
        """
        batches = list(self.batches(columns))
        if not batches:
            raise InputError("The pool is empty: there is no clip left to select from.")
        table = pa.Table.from_batches(batches).combine_chunks().sort_by("clip_token")
        check_unique(table.column("clip_token"))
        return table

    def selectable(self, columns: Collection[str], n_clips: int) -> pa.Table:
        """The clips that may be bought, sorted by token, checked against what is asked for.

        Raises:
            InputError: none, or fewer than `n_clips`, or `n_clips` below 1.
        """
        table = self.table(columns)
        table = table.filter(table.column("selectable"))
        check_request(n_clips, len(table))
        return table

    def size(self) -> tuple[int, int]:
        """(clips that may be bought, their frames)."""
        clips = frames = 0
        for batch in self.batches(["n_frames"]):
            chosen = batch.filter(batch.column("selectable"))
            clips += len(chosen)
            frames += pc.sum(chosen.column("n_frames")).as_py() or 0
        return clips, frames

    def _array(self, tokens: frozenset[str]) -> pa.Array:
        """The set as Arrow looks it up, made once."""
        if tokens not in self._arrays:
            self._arrays[tokens] = pa.array(sorted(tokens), pa.string())
        return self._arrays[tokens]

    @classmethod
    def from_table(cls, table: pa.Table, **settings) -> Pool:
        """A pool in memory; `settings` are the other attributes."""

        def read(columns: list[str]) -> Iterator[pa.RecordBatch]:
            yield from table.select(columns).to_batches(max_chunksize=BATCH_ROWS)

        return cls(read, frozenset(table.column_names), **settings)

    @classmethod
    def from_clips(
        cls,
        clips: Sequence[PoolClip],
        scores: Mapping[str, ClipScore] | None = None,
        embeddings: Mapping[str, Sequence[float]] | None = None,
        **settings,
    ) -> Pool:
        """A pool in memory from records, with scores and embeddings (which take the place of the scores') by token.

        Raises:
            InputError: a clip without its score, or a score of other frames.
        """
        columns = {name: [getattr(clip, name) for clip in clips] for name in PoolClip.__dataclass_fields__}
        if scores is not None:
            found = [_score_of(clip, scores) for clip in clips]
            columns |= {name: [getattr(score, name) for score in found] for name in _FROM_SCORES}
            columns["selectable"] = [score.selectable for score in found]
        if embeddings is not None:
            columns["embedding"] = [list(map(float, embeddings[clip.clip_token])) for clip in clips]
        table = pa.table({name: pa.array(values, _TYPES.get(name)) for name, values in columns.items()})
        return cls.from_table(table, **settings)

    @classmethod
    def from_dataset(cls, dataset: pads.Dataset, **settings) -> Pool:
        """A pool that is read anew from Arrow data (Parquet files of scores) whenever it is asked for."""

        def read(columns: list[str]) -> Iterator[pa.RecordBatch]:
            # one batch and one file ahead: memory must not grow with the pool
            yield from dataset.to_batches(
                columns=columns, batch_size=BATCH_ROWS, batch_readahead=1, fragment_readahead=1
            )

        return cls(read, frozenset(dataset.schema.names), **settings)


class Strategy(Protocol):
    """The signature of every strategy.

    Args:
        pool: the round's clips.
        budget: how many clips or frames to buy.
        rng: the only source of randomness.
        config: settings of the selection.

    Returns:
        One row a clip, without a duplicate, `rank` 1 first: exactly `budget.clips` rows, or rows of exactly
        `budget.frames` frames together.

    Raises:
        InputError: an empty pool, more asked for than can be selected, or a feature that the pool does not hold.
    """

    def __call__(
        self, pool: Pool, budget: Budget, rng: np.random.Generator, config: SelectConfig = ...
    ) -> list[Selection]: ...


def check_request(n_clips: int, n_selectable: int) -> None:
    """Raises `InputError` for an empty pool, or a number of clips that cannot be bought from it."""
    if n_selectable < 1:
        raise InputError("The pool is empty: there is no clip left to select from.")
    if n_clips < 1:
        raise InputError(f"A round must select at least 1 clip, but {n_clips} were asked for.")
    if n_clips > n_selectable:
        raise InputError(f"The round asks for {n_clips} clips, but only {n_selectable} are left in the pool.")


def check_unique(sorted_tokens: pa.ChunkedArray) -> None:
    """Raises `InputError` where a token comes twice."""
    if len(sorted_tokens) < 2:
        return
    same = pc.equal(sorted_tokens.slice(1), sorted_tokens.slice(0, len(sorted_tokens) - 1))
    if pc.any(same).as_py():
        raise InputError(f"Clip {sorted_tokens[pc.index(same, True).as_py()].as_py()} is in the pool twice.")


def whole_clip(round: int, token: str, n_frames: int, rank: int, reason: str, stratum: str = "") -> Selection:
    """A row that buys all frames of a clip without a score."""
    return Selection(round, token, 0, n_frames, rank, None, stratum, reason, n_frames)


def clips_table(clips: Sequence[PoolClip]) -> pa.Table:
    return pa.Table.from_pylist([asdict(clip) for clip in clips])


_TYPES = {
    "clip_token": pa.string(),
    "n_frames": pa.int32(),
    "stratum": pa.string(),
    "is_night": pa.bool_(),
    "is_rainy": pa.bool_(),
    "behaviour": pa.string(),
    "dynamics_source": pa.string(),
    "selectable": pa.bool_(),
    "model_version": pa.string(),
    "status": pa.string(),
    "shift_bev_sum": pa.float64(),
    "embedding": pa.list_(pa.float32()),
    "min_distance_m": pa.list_(pa.float64()),
}


def _score_of(clip: PoolClip, scores: Mapping[str, ClipScore]) -> ClipScore:
    if clip.clip_token not in scores:
        raise InputError(f"Clip {clip.clip_token} of the pool has no score: score the pool again.")
    score = scores[clip.clip_token]
    if score.status == "ok" and score.n_frames != clip.n_frames:
        raise InputError(
            f"Clip {clip.clip_token} has {clip.n_frames} frames, but its score is of {score.n_frames}: score it again."
        )
    return score
