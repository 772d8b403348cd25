"""Evaluation of a model over the val split, distributed by clip: planning, and perception beside it."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.evaluation.baselines import constant_velocity_plans, standing_still_plans
from sead_ray.evaluation.perception import ClipPerception, clip_perception, map_and_motion_report
from sead_ray.evaluation.planning import FramePlanning, frame_planning
from sead_ray.evaluation.predictions import FramePrediction, decode_predictions
from sead_ray.evaluation.slices import evaluation_report
from sead_ray.model.contract import PlannerOutput, VADOutput
from sead_ray.model.weights import CARD, read_card
from sead_ray.nuscenes.targets import build_targets
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout, metrics
from sead_ray.stages.adopt import adopt_model
from sead_ray.stages.attempts import Failure
from sead_ray.stages.beside import Beside
from sead_ray.stages.clip_pipeline import REAL_PARTS, Parts, run_pipeline
from sead_ray.stages.clip_runner import LoadedClip, run_clips
from sead_ray.stages.cluster import connect
from sead_ray.stages.detection import detection_report
from sead_ray.stages.label_store import read_labels
from sead_ray.stages.pipeline_size import pipeline_size
from sead_ray.stages.progress import Progress, say
from sead_ray.storage import Store

PLANNERS = ("planner", "standing_still", "constant_velocity")
PERCEPTION = ("detection", "map", "motion")  # keys of `evaluation.json`, absent without `evaluate.perception`


@dataclass(frozen=True)
class ClipOutput:
    """What leaves the model's actor: (T, 6, 2) per-step offsets of the plans for the recorded commands, and the
    decoded frames, empty where nobody asked for them or the base model has no such heads."""

    clip: Clip
    plans_m: NDArray[np.float32]
    predictions: list[FramePrediction]


# The frames of the val clips by planner, in one order whichever came first, and what is perceived in them.
Judged = tuple[dict[str, list[FramePlanning]], list[ClipPerception]]


def evaluate_model(
    run: Store,
    config: RunConfig,
    round_number: int,
    stopped: threading.Event | None = None,
    ahead: Beside[Judged | None] | None = None,
) -> None:
    """Publishes the evaluation of round `round_number`'s model; returns at once where it is published.

    Args:
        stopped: set by another thread, so that nothing more is evaluated, nor published.
        ahead: `judge_ahead` of the same round; what it found is waited for and taken.

    Raises:
        InputError: a val clip cannot be read; evaluation on a part of val would not be comparable.
    """
    folder = layout.evaluation(round_number)
    if run.is_published(folder):
        return
    with metrics.stage(run.root, "evaluate", round_number):
        publish_evaluation(run, config, layout.model(round_number), folder, stage_of(round_number), stopped, ahead)
    if not run.is_published(folder):
        return
    l2_m = run.read_json(f"{folder}/evaluation.json")["planner"]["l2_m"]["avg"]
    if l2_m is not None:  # None without val clips
        metrics.show("sead_l2_m", l2_m, run=run.root, round=round_number)


def evaluate_model_dir(run: Store, config: RunConfig, model_dir: str) -> str:
    """Publishes the evaluation of the model in `model_dir`, such as an imported checkpoint; returns its folder.

    Raises:
        InputError: as `evaluate_model`; or there is no model, or it was made for other images.
    """
    version = read_card(Store(model_dir), CARD)["model_version"]
    folder, model_key = layout.model_evaluation(version), layout.evaluated_model(version)
    if not run.is_published(folder):
        adopt_model(run, model_dir, model_key, config.image)
        with metrics.stage(run.root, "evaluate"):
            publish_evaluation(run, config, model_key, folder, f"evaluate model {version}")
        run.remove(model_key)
    return folder


def publish_evaluation(
    run: Store,
    config: RunConfig,
    model_key: str,
    folder: str,
    stage: str,
    stopped: threading.Event | None = None,
    ahead: Beside[Judged | None] | None = None,
) -> None:
    """Evaluates the model at `model_key` of the run and publishes `folder`; returns at once where it is published.

    Without val clips the evaluation holds no number, and says so.

    Args:
        stage: name of the stage for the progress bar.
        stopped, ahead: as in `evaluate_model`.

    Raises:
        InputError: as `evaluate_model`.
    """
    if run.is_published(folder):
        return
    started = time.monotonic()
    clips = val_clips(run)
    if not clips:
        say(f"{stage}: no val split was prepared, nothing is evaluated")
    connect()
    judged = (ahead.result() if ahead else None) or judge(run, config, model_key, clips, stage, stopped)
    if judged is None:
        return
    records, perception = judged
    report = evaluation_report(*(records[name] for name in PLANNERS), clips)
    run.write_json(f"{folder}/evaluation.json", {**report, **_perception_report(perception)})
    run.publish(
        folder,
        {
            "model_version": read_card(run, f"{model_key}/{CARD}")["model_version"],
            "n_clips": len(clips),
            "seconds": round(time.monotonic() - started, 2),
        },
    )


def stage_of(round_number: int) -> str:
    return f"evaluate round {round_number}"


def judge(
    run: Store,
    config: RunConfig,
    model_key: str,
    clips: Sequence[Clip],
    stage: str,
    stopped: threading.Event | None = None,
    parts: Parts = REAL_PARTS,
) -> Judged | None:
    """The model at `model_key` on `clips`; None once `stopped`."""
    records: dict[str, list[FramePlanning]] = {name: [] for name in PLANNERS}
    perception: list[ClipPerception] = []
    clips_per_batch = config.evaluate.clips_per_batch or config.score.clips_per_batch
    with (
        Progress(stage, len(clips), "clip") as progress,
        run_pipeline(
            run,
            config.data.root,
            config.image,
            model_key,
            [clip.clip_token for clip in clips],
            work=partial(predict_clips, decode=config.evaluate.perception),
            finish=partial(_judge_all, run_root=run.root, config=config),
            size=pipeline_size(config.score, clips_per_batch, None, config.evaluate.max_actors),
            parts=parts,
            max_attempts=config.score.max_attempts,
        ) as rows,
    ):
        for row in rows:
            if stopped and stopped.is_set():
                return None
            for name in PLANNERS:
                records[name] += [FramePlanning.from_row(item) for item in row[name]]
            perception += pickle.loads(row["perception"])
            progress.advance()
    for name in PLANNERS:  # sums must not depend on which clip came first
        records[name].sort(key=lambda record: (record.clip_token, record.frame_token))
    return records, perception


def val_clips(run: Store) -> list[Clip]:
    """What slices ask of the val clips: everything but their frames, which are read where they are decoded."""
    columns = [name for name in CLIP_SCHEMA.names if name not in ("schema_version", "frames")]
    rows = run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, columns, where=pc.field("split") == "val")
    return [Clip(**row, frames=()) for row in rows]


def _perception_report(clips: list[ClipPerception]) -> dict[str, Any]:
    """The keys of `PERCEPTION`; nothing where no clip was decoded."""
    if not clips:
        return {}
    clips.sort(key=lambda clip: clip.clip_token)
    frames = [frame for clip in clips for frame in clip.detections]
    return {"detection": detection_report(frames), **map_and_motion_report(clips)}


def predict_clips(
    model: Any, _version: str, clips: Sequence[LoadedClip], device: str, decode: bool
) -> list[ClipOutput]:
    """Runs the model over clips in lockstep; `decode`: keep what it sees, too.

    Raises:
        InputError: a plan, box or line is not finite; names the frame.
    """
    plans: list[list[NDArray[np.float32]]] = [[] for _ in clips]
    predictions: list[list[FramePrediction]] = [[] for _ in clips]
    for t, active, output in run_clips(model, clips, device):
        frames = [clips[index].clip.frames[t] for index in active]
        commanded = _commanded_plans(output, [int(frame.command) for frame in frames])
        for index, frame, plan in zip(active, frames, commanded):
            if not np.isfinite(plan).all():
                raise InputError(f"The model's plan of frame {frame.token} is not finite: it has diverged.")
            plans[index].append(plan)
        if not decode or not isinstance(output, VADOutput):
            continue
        for index, frame, found in zip(active, frames, decode_predictions(output, model.planner.size.pc_range)):
            found.require_sound(frame.token)
            predictions[index].append(found)
    return [ClipOutput(loaded.clip, np.stack(plan), found) for loaded, plan, found in zip(clips, plans, predictions)]


def _commanded_plans(output: PlannerOutput, commands: list[int]) -> NDArray[np.float32]:
    """(B, 6, 2)"""
    return output.plans_m.float().cpu()[torch.arange(len(commands)), torch.tensor(commands)].numpy()


def _judge_all(results: Sequence[tuple[str, Any]], run_root: str, config: RunConfig) -> list[dict[str, Any]]:
    return [_judge(token, result, run_root, config) for token, result in results]


def _judge(token: str, result: Any, run_root: str, config: RunConfig) -> dict[str, Any]:
    """The planner, the two fixed lines of comparison and the perception metrics on one clip (CPU)."""
    if isinstance(result, Failure):
        raise InputError(f"Val clip {token} cannot be evaluated: {result.reason}")
    output: ClipOutput = result
    clip = output.clip
    labels = read_labels(Store(run_root), config, {frame.token for frame in clip.frames}, {token})
    targets = [build_targets(clip, t, labels, points="lidar") for t in range(len(clip.frames))]
    plans = dict(zip(PLANNERS, (output.plans_m, standing_still_plans(clip), constant_velocity_plans(clip))))
    rows: dict[str, Any] = {
        name: [frame_planning(plan[t], targets[t], token, clip.frames[t].token).to_row() for t in range(len(targets))]
        for name, plan in plans.items()
    }
    perception = [clip_perception(clip, output.predictions, targets, labels)] if output.predictions else []
    return {**rows, "perception": pickle.dumps(perception, protocol=5)}
