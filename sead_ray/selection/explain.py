"""Why a clip that could have been bought was not: what its strategy saw in it, beside what it took instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from sead_ray.arrow import compute as pc
from sead_ray.config import SelectConfig
from sead_ray.records import Selection
from sead_ray.selection import activead, sead, weighted
from sead_ray.selection.embedded import matrix
from sead_ray.selection.pool import Pool, PoolClip
from sead_ray.selection.ranking import Ranker

RANKERS: dict[str, Callable[[Pool, SelectConfig], Ranker]] = {
    "sead": sead.ranker,
    "sead_diverse": sead.ranker,
    "activead": activead.ranker,
    "weighted": weighted.ranker,
}


def explain(strategy: str, pool: Pool, rows: Sequence[Selection], clip: PoolClip, config: SelectConfig) -> str:
    """One sentence on a clip of the pool that is not among `rows`, which the strategy chose.

    Args:
        pool: as the strategy saw it.
    """
    if strategy in RANKERS:
        return _by_rank(pool, rows, clip.clip_token, RANKERS[strategy](pool, config), strategy == "sead_diverse")
    if strategy == "stratified":
        taken = sum(row.stratum == clip.stratum for row in rows)
        return f"{taken} clips were drawn at random from its stratum {clip.stratum}, and it was not among them."
    if strategy == "ego_diversity":
        condition = ("N" if clip.is_night else "D") + ("R" if clip.is_rainy else "S")
        leaf = f"{condition}, {clip.behaviour},"
        taken = sum(f"clips of {leaf}" in row.reason for row in rows)
        return (
            f"{taken} clips of {leaf[:-1]} were taken evenly along average speed, and at {clip.mean_speed_mps:.1f} m/s "
            "it was not among them."
        )
    if strategy in ("random", "random_frames"):
        return f"{len(rows)} clips were drawn uniformly at random, and it was not among them."
    if ":" in strategy:
        return f"{len(rows)} clips were taken, and it was not among them."
    return _by_distance(pool, rows, clip.clip_token, strategy, config)


def _by_rank(pool: Pool, rows: Sequence[Selection], token: str, ranker: Ranker, diverse: bool) -> str:
    """Its place in the ranking, beside the last one taken."""
    found = _row_of(pool, token, [*ranker.columns, "key_length", "status"])
    if ranker.keep is not None and not pc.all(ranker.keep(found)).as_py():
        return "it has no key frame, and select.without_key_frame is next_ranked."
    value = float(ranker.value(found)[0])
    better = 0
    for batch in pool.batches([*ranker.columns, "key_length", "status"]):
        batch = batch.filter(pc.and_(batch.column("selectable"), pc.equal(batch.column("status"), "ok")))
        batch = batch.filter(ranker.keep(batch)) if ranker.keep is not None else batch
        values, tokens = ranker.value(batch), batch.column("clip_token")
        ahead = pc.or_(pa.array(values > value), pc.and_(pa.array(values == value), pc.less(tokens, token)))
        better += pc.sum(ahead).as_py() or 0
    last = rows[-1]
    near = ", or it is a near-duplicate of a clip before it" if diverse and better < len(rows) else ""
    return (
        f"{ranker.words[:1].lower()}{ranker.words[1:]} {value:.4g} ranks {better + 1}, while the last of {len(rows)} "
        f"taken has {last.score:.4g}{near}."
    )


def _by_distance(pool: Pool, rows: Sequence[Selection], token: str, strategy: str, config: SelectConfig) -> str:
    """Its distance to the nearest clip that was taken or is labelled."""
    column = config.vaal_input if strategy == "vaal" else "embedding"
    mine = matrix(pa.Table.from_batches([_row_of(pool, token, [column])]), column)[0]
    taken = {row.clip_token for row in rows}
    nearest, whose = np.inf, ""
    for batch in pool.batches([column, *(["status"] if "status" in pool.columns else [])]):
        tokens = batch.column("clip_token").to_pylist()
        keep = pc.or_(pa.array([item in taken for item in tokens]), pc.invert(batch.column("selectable")))
        batch = batch.filter(pc.and_(keep, pc.greater(_length(batch.column(column)), 0)))
        if len(batch):
            gaps = np.linalg.norm(matrix(pa.Table.from_batches([batch]), column) - mine, axis=1)
            if gaps.min() < nearest:
                nearest, whose = float(gaps.min()), batch.column("clip_token")[int(gaps.argmin())].as_py()
    last = rows[-1]
    bar = f" the last of {len(rows)} taken scored {last.score:.4g};" if last.score is not None else ""
    return f"{strategy} preferred others:{bar} the nearest clip taken or labelled, {whose}, is {nearest:.4g} from it."


def _row_of(pool: Pool, token: str, columns: Sequence[str]) -> pa.RecordBatch:
    for batch in pool.batches(columns):
        found = batch.filter(pc.equal(batch.column("clip_token"), token))
        if len(found):
            return found
    raise ValueError(f"clip {token} is not in the pool")


def _length(column: pa.Array) -> pa.Array:
    return pc.binary_length(column) if pa.types.is_binary(column.type) else pc.list_value_length(column)
