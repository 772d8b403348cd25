"""What a run would do and cost, without doing it: the answer of `--dry-run`."""

from __future__ import annotations

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.py123d.clips import LogClips
from sead_ray.py123d.folder import Py123dFolder
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.selection import needs
from sead_ray.selection.budget import round_amounts
from sead_ray.stages import layout
from sead_ray.stages.select import needs_scores
from sead_ray.stages.train import schedule
from sead_ray.storage import Store


def describe_plan(config: RunConfig) -> str:
    """One line a round: clips, frames, optimiser steps, clips to score; an upper bound where key frames decide.

    Raises:
        InputError: as the run itself would, for data, splits and budget.
    """
    pool_clips, pool_frames, val_clips, source = _pool_size(config)
    amounts = round_amounts(config.select, pool_clips, pool_frames)
    frames_each = pool_frames / pool_clips
    in_frames = config.select.budget_in == "frames"
    sizes = [max(1, round(amount / frames_each)) if in_frames else amount for amount in amounts]
    lines = [
        f"Run folder {Store(config.run_dir).root}, {config.model.preset}, seed {config.seed}.",
        f"Pool: {pool_clips} clips, {pool_frames} frames; val: {val_clips} clips ({source}).",
        "round  new clips  clips  frames at most  training steps at most  clips to score",
    ]
    bought = 0
    for number, size in enumerate(sizes):
        labelled_too = "labelled" in needs(config.select.incremental)
        to_score = pool_clips - (0 if labelled_too else bought) if needs_scores(config, number) else 0
        bought += size
        frames = round(bought * frames_each)
        steps = schedule(frames, config.train).total_steps
        lines.append(f"{number:5d}  {size:9d}  {bought:5d}  {frames:14d}  {steps:22d}  {to_score:14d}")
    done = [number for number in range(len(sizes)) if Store(config.run_dir).is_published(layout.evaluation(number))]
    if done:
        lines.append(f"Rounds already done: {', '.join(map(str, done))}.")
    return "\n".join(lines)


def _pool_size(config: RunConfig) -> tuple[int, int, int, str]:
    """Pool clips, pool frames, val clips, and where the numbers come from."""
    run = Store(config.run_dir)
    if run.is_published(layout.CLIPS):
        facts = run.manifest(layout.CLIPS)
        return facts["pool_clips"], facts["pool_frames"], facts["val_clips"], "prepared"
    world = config.world
    if world.generate and not Store(config.data.root).exists(config.data.version):
        val = round(world.scenes * world.val_share)
        return world.scenes - val, (world.scenes - val) * world.frames, val, "to be generated"
    if config.data.format == "py123d":
        return *_log_sizes(config), "from the logs"
    folder = NuScenesFolder(config.data)
    folder.check_logs_disjoint()
    pool = folder.pool_scenes()
    frames = sum(folder.scene_rows[token]["nbr_samples"] for token in pool)
    return len(pool), frames, len(folder.val_scenes()), "from the tables"


def _log_sizes(config: RunConfig) -> tuple[int, int, int]:
    folder = Py123dFolder(config.data)
    folder.check_logs_disjoint()
    pool, val = (
        [rows for log in logs for rows in LogClips(log, config.data).rows]
        for logs in (folder.pool_logs(), folder.val_logs())
    )
    return len(pool), sum(map(len, pool)), len(val)


def require_prepared(run: Store) -> None:
    """Raises `InputError` where the run folder holds no clips."""
    if not run.is_published(layout.CLIPS):
        raise InputError(f"{run.root} holds no prepared clips: run jobs.prepare_clips with this configuration first.")
    next(iter(run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, columns=["clip_token"])), None)
