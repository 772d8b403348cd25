"""Evaluation: planning L2 and collision rate of a round's model over the val split, distributed by clip."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.evaluation.baselines import constant_velocity_plans, standing_still_plans
from sead_ray.evaluation.planning import FramePlanning, frame_planning
from sead_ray.evaluation.slices import evaluation_report
from sead_ray.nuscenes.targets import build_targets
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_pipeline import Failure, pipeline_size, run_pipeline
from sead_ray.stages.clip_runner import LoadedClip, run_clips
from sead_ray.stages.cluster import connect
from sead_ray.stages.label_store import read_labels
from sead_ray.stages.progress import Progress
from sead_ray.storage import Store

PLANNERS = ("planner", "standing_still", "constant_velocity")


def evaluate_model(run: Store, config: RunConfig, round_number: int) -> None:
    """Publishes round `round_number`'s evaluation; returns at once where it is published.

    Raises:
        InputError: a val clip cannot be read; evaluation on a part of val would not be comparable.
    """
    folder = layout.evaluation(round_number)
    if run.is_published(folder):
        return
    started = time.monotonic()
    rows = run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, where=pc.field("split") == "val")
    clips = [Clip.from_row(row) for row in rows]
    connect()
    records: dict[str, list[FramePlanning]] = {name: [] for name in PLANNERS}
    with Progress(f"evaluate round {round_number}", len(clips), "clip") as progress:
        for row in run_pipeline(
            run,
            config.data.root,
            config.image,
            layout.model(round_number),
            [clip.clip_token for clip in clips],
            work=_plans,
            finish=partial(_judge, run_root=run.root, config=config),
            size=pipeline_size(config.score, config.evaluate.clips_per_batch, 1, config.evaluate.max_actors),
        ):
            for name in PLANNERS:
                records[name] += [FramePlanning.from_row(item) for item in row[name]]
            progress.advance()
    for name in PLANNERS:  # sums must not depend on which clip came first
        records[name].sort(key=lambda record: (record.clip_token, record.frame_token))
    report = evaluation_report(*(records[name] for name in PLANNERS), clips)
    run.write_json(f"{folder}/evaluation.json", report)
    run.publish(folder, {"n_clips": len(clips), "seconds": round(time.monotonic() - started, 2)})


def _plans(
    model: Any, _version: str, clips: Sequence[LoadedClip], device: str
) -> list[tuple[Clip, NDArray[np.float32]]]:
    """(T, 6, 2) planned per-step offsets for each frame's recorded command."""
    plans: list[list[NDArray[np.float32]]] = [[] for _ in clips]
    for t, active, output in run_clips(model, clips, device):
        commands = torch.tensor([int(clips[index].clip.frames[t].command) for index in active])
        chosen = output.plans_m.float().cpu()[torch.arange(len(active)), commands].numpy()
        for index, plan in zip(active, chosen):
            plans[index].append(plan)
    return [(loaded.clip, np.stack(items)) for loaded, items in zip(clips, plans)]


def _judge(token: str, result: Any, run_root: str, config: RunConfig) -> dict[str, Any]:
    """The planner and the two fixed lines of comparison on one clip (CPU)."""
    if isinstance(result, Failure):
        raise InputError(f"Val clip {token} cannot be evaluated: {result.reason}")
    clip, planned = result
    labels = read_labels(Store(run_root), config, {frame.token for frame in clip.frames}, {token})
    targets = [build_targets(clip, t, labels, points="lidar") for t in range(len(clip.frames))]
    plans = dict(zip(PLANNERS, (planned, standing_still_plans(clip), constant_velocity_plans(clip))))
    return {
        name: [frame_planning(plan[t], targets[t], token, clip.frames[t].token).to_row() for t in range(len(targets))]
        for name, plan in plans.items()
    }
