"""What came in through the service joins the pool at the beginning of a round."""

from __future__ import annotations

from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.preparation import publish_clips
from sead_ray.stages.progress import say
from sead_ray.storage import Store


def take_up(run: Store, number: int) -> int:
    """Adds clips of the intake to the pool, unless round `number` has begun to score or select; returns how many.

    The pool grows between rounds only: budgets that are shares of it, and the ranks of Eq. 1, are those of the pool at
    the round's beginning. Features of the starting backbone are then extracted again.
    """
    begun = (layout.selection(number), layout.scores(number))
    if any(run.is_published(folder) for folder in begun):
        return 0
    if run.find(layout.score_parts(number), ".parquet"):
        return 0
    came = intake_tokens(run)
    if not came:
        return 0
    new, is_told = _compared(run, came)
    if not new and is_told:
        return 0
    publish_clips(run, [layout.CLIPS_FILE, *new], anew=True)
    run.remove(layout.FEATURES)
    run.remove(layout.FEATURE_PARTS)
    say(f"round {number}: {len(new)} clip(s) of the intake join the pool")
    return len(new)


def is_pool_complete(run: Store) -> bool:
    """Whether no clip of the intake waits for a round's beginning."""
    came = intake_tokens(run)
    return not came or _compared(run, came) == ([], True)


def _compared(run: Store, came: dict[str, str]) -> tuple[list[str], bool]:
    """Keys of the intake's clips that are not in the clips' file, and whether that is as its manifest says."""
    rows = run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, columns=["clip_token", "split"])
    splits = {row["clip_token"]: row["split"] for row in rows}
    n_pool = sum(split == "pool" for split in splits.values())
    new = [key for key, token in came.items() if token not in splits]
    return new, run.manifest(layout.CLIPS)["pool_clips"] == n_pool


def intake_tokens(run: Store) -> dict[str, str]:
    """Clip token of each row of the intake, by the key of its file, in the order of the keys."""
    keys = [f"{layout.INTAKE_CLIPS}/{name}" for name in run.list(layout.INTAKE_CLIPS, suffix=".parquet")]
    return {key: next(run.iter_rows(key, CLIP_SCHEMA, columns=["clip_token"]))["clip_token"] for key in keys}
