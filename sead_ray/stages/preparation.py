"""A preparation under way, below `prepare/` in the run folder: tables divided by scene, and the ledger of what is done.

A part is the Parquet file of one finished scene. Its name is a hash of all that it depends on in the tables and the
settings: after a table was mended, only the scenes whose rows changed are made again.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from sead_ray.config import RunConfig
from sead_ray.nuscenes.scene_index import DRIVE_TABLES, LABEL_TABLES, write_index
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA, SCHEMA_VERSION
from sead_ray.stages import layout
from sead_ray.stages.progress import Progress
from sead_ray.stages.scene_pool import Work, run_scenes
from sead_ray.stages.scene_workers import SceneJob
from sead_ray.storage import Store

Scene = tuple[str, str]  # token, role (pool | val)

# Small row groups, since decoders and trainers take single clips out of them; but never so many that the file's footer,
# which each of them reads, becomes large.
CLIP_GROUP, LABEL_GROUP, MOST_GROUPS = 16, 64, 4096

DRIVE, LABELS = f"{layout.PREPARATION}/drive", f"{layout.PREPARATION}/labels"
_TABLES = {DRIVE: DRIVE_TABLES, LABELS: LABEL_TABLES}


def divide_tables(run: Store, config: RunConfig, index: str, scenes: Sequence[Scene]) -> list[str]:
    """Makes the index `index` (DRIVE or LABELS) of `scenes`, unless it is there and the tables are unchanged.

    Returns:
        A digest of each scene's rows.
    """
    source, version, tables = Store(config.data.root), config.data.version, _TABLES[index]
    tokens = [token for token, _ in scenes]
    names = {*tables, "sample"}  # annotations find their scene through their sample
    state = {"scenes": tokens, "tables": source.stamps(sorted(f"{version}/{name}.json" for name in names))}
    if run.exists(f"{index}.json"):
        known = run.read_json(f"{index}.json")
        if {key: known[key] for key in state} == state:
            return known["digests"]
    sizes = source.sizes(version)
    total = sum(sizes.get(f"{name}.json", 0) for name in names)
    with Progress("prepare tables", total >> 20, "MiB") as progress:
        read = 0

        def advance(n_bytes: int) -> None:
            nonlocal read
            read += n_bytes
            progress.advance((read >> 20) - progress.done)

        digests = write_index(source, version, tokens, tables, run, f"{index}.parquet", advance)
    run.write_json(f"{index}.json", {**state, "digests": digests})
    return digests


def part_keys(kind: str, config: RunConfig, scenes: Sequence[Scene], digests: Sequence[Sequence[str]]) -> list[str]:
    """Where the parts of `scenes` lie; `digests` holds a list for each index that a part is made from."""
    settings = config.data.model_dump(mode="json", exclude={"root"})
    keys = []
    for position, scene in enumerate(scenes):
        content = [kind, SCHEMA_VERSION, settings, *scene, *(of_index[position] for of_index in digests)]
        name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
        keys.append(f"{layout.PREPARATION}/{kind}/{name}.parquet")
    return keys


def make_parts(
    run: Store, config: RunConfig, kind: str, work: Work, scenes: Sequence[dict[str, Any]], indexes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Makes the parts that are missing; yields the workers' answers for these.

    Args:
        scenes: one row each, with its `part`, and what `work` needs.
        indexes: DRIVE, and LABELS where annotations are needed.
    """
    there = set(run.list(f"{layout.PREPARATION}/{kind}"))
    missing = [scene for scene in scenes if scene["part"].rpartition("/")[2] not in there]
    job = SceneJob(run, config.data, tuple(f"{index}.parquet" for index in indexes), uuid.uuid4().hex)
    with Progress(f"prepare {kind}", len(scenes), "scene", done=len(scenes) - len(missing)) as progress:
        for answer in run_scenes(work, [job], missing, config.prepare):
            progress.advance()
            yield answer


def publish_clips(run: Store, parts: Sequence[str], anew: bool = False) -> None:
    """The clips of all `parts`, and how many there are of each role; `anew`: in place of those published before."""
    counts: Counter[str] = Counter()
    group = max(CLIP_GROUP, -(-len(parts) // MOST_GROUPS))
    run.write_groups(layout.CLIPS_FILE, _counted(joined(run, parts, group), counts), CLIP_SCHEMA)
    facts = {f"{role}_{what}": counts[f"{role}_{what}"] for role in _ROLES for what in _WHAT}
    run.publish(layout.CLIPS, facts, anew)


def publish_labels(run: Store, parts: Sequence[str]) -> None:
    """The labels of all `parts`, one a scene."""
    run.write_groups(layout.LABELS_FILE, joined(run, parts, LABEL_GROUP), LABEL_SCHEMA)
    run.publish(layout.LABELS, {"n_scenes": len(parts)})


def joined(run: Store, parts: Iterable[str], group: int) -> Iterator[pa.Table]:
    """The rows of `parts`, in their order, as tables of `group` rows: what is written does not show who made it."""
    held: list[pa.Table] = []
    n_held = 0
    for part in parts:
        held.append(run.parquet_file(part).read())
        n_held += len(held[-1])
        while n_held >= group:
            table = pa.concat_tables(held)
            yield table.slice(0, group)
            held = [table.slice(group)]
            n_held -= group
    if n_held:
        yield pa.concat_tables(held)


_ROLES: tuple[Literal["pool", "val"], ...] = ("pool", "val")
_WHAT = ("clips", "frames")


def _counted(tables: Iterator[pa.Table], counts: Counter[str]) -> Iterator[pa.Table]:
    """Passes the tables on and counts clips and frames of each role."""
    for table in tables:
        lengths = pc.call_function("list_value_length", [table.column("frames")]).to_pylist()
        for role, length in zip(table.column("split").to_pylist(), lengths, strict=True):
            counts[f"{role}_clips"] += 1
            counts[f"{role}_frames"] += length
        yield table
