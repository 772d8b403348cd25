"""A run folder with real records, written as the stages write it, and tiny images made here."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sead_ray.geometry import Pose, quaternion_from_heading
from sead_ray.records import (
    CAMERAS,
    Annotation,
    Camera,
    Clip,
    ClipScore,
    Command,
    Frame,
    FrameLabels,
    MapVector,
    Selection,
)
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA, SCORE_SCHEMA, SELECTION_SCHEMA
from sead_ray.storage import Store

N_FRAMES = 8
N_POOL = 10
LIDAR = Pose((0.95, 0.0, 1.84), quaternion_from_heading(-np.pi / 2))


def _image(number: int, width: int = 160, height: int = 90) -> bytes:
    image = Image.new("RGB", (width, height), (120, 150 + 8 * (number % 8), 190))
    draw = ImageDraw.Draw(image)
    draw.polygon([(0, height), (width, height), (width // 2, height // 2)], fill=(90, 90, 90))
    draw.rectangle((60 + 4 * (number % 8), 48, 85 + 4 * (number % 8), 66), fill=(170, 40, 40))
    out = io.BytesIO()
    image.save(out, "JPEG")
    return out.getvalue()


def _clip(data: Store, number: int, split: str, description: str, n_frames: int) -> Clip:
    frames = []
    for index in range(n_frames):
        heading_rad = 0.3 * number + 0.05 * index
        pose = Pose((100.0 + 3 * index, 200.0 + 0.4 * index**1.5, 0.0), quaternion_from_heading(heading_rad))
        key = f"samples/CAM_FRONT/{number}_{index}.jpg"
        data.write_bytes(key, _image(index))
        cameras = tuple(
            Camera(name, key, 160, 90, 500_000 * index, np.eye(3), Pose((1, 0, 1), (1, 0, 0, 0)), pose)
            for name in CAMERAS[:2]
        )
        can_bus = np.zeros(18)
        frames.append(Frame(f"f{number}-{index}", 500_000 * index, pose, LIDAR, can_bus, Command.STRAIGHT, cameras))
    return Clip(
        f"clip{number:02d}", f"scene-{number:04d}", f"log{number}", "singapore-onenorth", split, description,
        number % 3 == 0, number % 4 == 0, "straight", 0.5, 0.1, "can", tuple(frames),
    )  # fmt: skip


def _labels(clip: Clip, frame: Frame) -> FrameLabels:
    ego = frame.global_from_ego.matrix
    kinds = [
        ("vehicle.car", (12.0, 3.0), (1.9, 4.5)),
        ("human.pedestrian.adult", (4.0, -3.0), (0.6, 0.7)),
        ("movable_object.barrier", (8.0, -6.0), (2.0, 0.5)),
        ("vehicle.truck", (-9.0, -3.5), (2.6, 8.0)),
    ]
    annotations = tuple(
        Annotation(f"i{number}", category, number, tuple((ego @ [*at, 1.0, 1.0])[:3]), (*size, 1.7),
                   frame.global_from_ego.rotation_wxyz, 9, 0)
        for number, (category, at, size) in enumerate(kinds)
    )  # fmt: skip
    vectors = (
        MapVector(0, np.array([[0.0, -30.0], [0.0, 30.0]])),
        MapVector(1, np.array([[-6.0, 14.0], [6.0, 14.0], [6.0, 18.0], [-6.0, 18.0], [-6.0, 14.0]])),
        MapVector(2, np.array([[-7.5, -30.0], [-7.5, 10.0], [-9.0, 30.0]])),
        MapVector(2, np.array([[7.5, -30.0], [7.5, 30.0]])),
    )
    return FrameLabels(frame.token, clip.clip_token, frame.timestamp_us, annotations, vectors)


def _metrics(scale: float) -> dict:
    l2_m = {"1s": 0.5 * scale, "2s": 0.8 * scale, "3s": 1.1 * scale, "avg": 0.8 * scale}
    collision_percent = {"1s": 0.1 * scale, "2s": 0.2 * scale, "3s": 0.6 * scale, "avg": 0.3 * scale}
    return {"l2_m": l2_m, "collision_percent": collision_percent, "n_frames": 40}


def _perception(index: int) -> dict:
    """As `sead_ray.stages.evaluate` writes it, less what the page does not show; nobody predicted a pedestrian."""
    motion = {"minADE_m": 0.81 + index, "minFDE_m": 1.25, "miss_rate": 0.125, "EPA": 0.4375}
    return {
        "detection": {"nuscenes": {"NDS": 0.2468, "mAP": 0.1357}, "vad_range": {"NDS": 0.3579, "mAP": 0.2461}},
        "map": {"mAP": 0.4321},
        "motion": {"car": motion, "pedestrian": dict.fromkeys(motion)},
    }


def _write_round(run: Store, index: int, clips: list[Clip], failed_reason: str) -> None:
    folder = f"rounds/{index:02d}"
    bought = clips[2 * index : 2 * index + 2]
    rest = clips[2 * index :]
    if index:
        scores = [_score(clip, number, index) for number, clip in enumerate(rest[:-1])]
        scores.append(ClipScore(rest[-1].clip_token, f"model-{index - 1}", "failed", failed_reason))
        run.write_table(f"{folder}/scores/scores.parquet", (score.to_row() for score in scores), SCORE_SCHEMA)
        run.publish(f"{folder}/scores", {"seconds": 4.25, "n_clips": len(scores), "n_failed": 1})
    stops = [len(bought[0].frames), len(bought[1].frames)] if not index else [5, 2]
    selections = [
        Selection(
            index,
            clip.clip_token,
            0 if not index else 2,
            stop,
            rank,
            None if not index else 9.0 - rank,
            "DS/B" if not index else "",
            f"largest shift {rank}" if index else "stratum quota",
            stop if not index else stop - 2,
        )
        for rank, (clip, stop) in enumerate(zip(bought, stops))
    ]
    run.write_table(f"{folder}/selection/selection.parquet", (row.to_row() for row in selections), SELECTION_SCHEMA)
    facts = {"n_clips": 2, "n_frames": 3, "n_clips_without_key_frame": 1 if index else 0, "seconds": 0.5}
    run.publish(f"{folder}/selection", {**facts, "strategy": "sead" if index else "stratified"})


def _score(clip: Clip, number: int, index: int) -> ClipScore:
    shifts = [1.0 + 0.3 * np.sin(step + number) for step in range(N_FRAMES - 1)]
    is_key = [2 <= frame < 5 and number == 0 for frame in range(N_FRAMES)]
    return ClipScore(
        clip.clip_token, f"model-{index - 1}", "ok", n_frames=N_FRAMES, dt_s=0.5, shift_agents=shifts,
        shift_map=[0.6 * value for value in shifts], n_transitions=N_FRAMES - 1, shift_sum=9.0 - number,
        shift_mean=1.2, min_distance_m=[4.5] + [float("inf")] * (N_FRAMES - 1), is_key=is_key,
        key_start=2 * (number == 0), key_length=sum(is_key), embedding=[0.1] * 4,
        shift_agents_sum=6.0 - number, shift_map_sum=3.0,
        plan_m=[value for step in range(1, 7) for value in (0.5, 2.0 * step)],
    )  # fmt: skip


def _write_model(run: Store, index: int) -> None:
    folder = f"rounds/{index:02d}"
    lines = []
    for step in range(0, 60, 2):
        losses = {"loss_cls": 2.0, "loss_map_pts": 1.0, "loss_traj": 0.5, "loss_plan_reg": 3.0 / (1 + step)}
        losses = {name: value * np.exp(-step / 40) for name, value in losses.items()}
        lines.append({"step": step, "epoch": 0, "lr": 1e-4, "loss": sum(losses.values()), "losses": losses})
    run.write_bytes(f"{folder}/model/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    run.write_bytes(f"{folder}/model/weights.safetensors", f"weights {index}".encode())
    card = {"format_version": 1, "sha256": "0" * 64, "model_version": f"model-{index}", "size": {}}
    run.write_json(f"{folder}/model/model.json", {**card, "pretrained_backbone": False, "info": {"round": index}})
    run.publish(f"{folder}/model", {"steps": 60, "seconds": 33.5, "model_version": f"model-{index}"})


def _write_evaluation(run: Store, index: int) -> None:
    folder = f"rounds/{index:02d}"
    slices = {
        name: {"l2_avg_m": 0.7 + 0.01 * number, "collision_avg_percent": 0.2, "n_frames": 10 + number}
        for number, name in enumerate(("overtake", "day", "night", "turn_left"))
    }
    value = {"planner": _metrics(1 - 0.2 * index), "standing_still": _metrics(4), "constant_velocity": _metrics(1.5)}
    clips = {
        f"clip{number}": {
            "n_frames": 8,
            "l2_m": [0.5, 0.7, 0.9, 0.7 + 0.1 * number - 0.2 * index],
            "collision_percent": [0.0, 0.1, 0.2, 0.1 * number],
        }
        for number in range(5)
    }
    evaluation = {**value, "slices": slices, "clips": clips, **_perception(index)}
    run.write_json(f"{folder}/evaluation/evaluation.json", evaluation)
    run.publish(f"{folder}/evaluation", {"seconds": 2.5})


def run_maker(tmp_path: Path, name: str = "run"):
    """`make(n_rounds, last_stage="evaluation", ...)` -> (run store, data root), below `tmp_path`."""

    def make(
        n_rounds: int = 3,
        last_stage: str = "evaluation",
        description: str = "Parked cars, wait at crossing",
        failed_reason: str = "samples/x.jpg is truncated",
        with_labels: bool = True,
        n_frames: int = N_FRAMES,
    ) -> tuple[Store, str]:
        run, data = Store(str(tmp_path / name)), Store(str(tmp_path / "data"))
        clips = [
            _clip(data, number, "pool" if number < N_POOL else "val", description, n_frames)
            for number in range(N_POOL + 2)
        ]
        run.write_table("clips/clips.parquet", (clip.to_row() for clip in clips), CLIP_SCHEMA)
        run.publish("clips", {"seconds": 1.0})
        if with_labels:
            rows = [_labels(clip, frame).to_row() for clip in clips for frame in clip.frames]
            run.write_table("labels/labels.parquet", rows, LABEL_SCHEMA)
            run.publish("labels", {"seconds": 1.0})
        for index in range(n_rounds):
            _write_round(run, index, clips[:N_POOL], failed_reason)
            if index == n_rounds - 1 and last_stage == "selection":
                break
            _write_model(run, index)
            _write_evaluation(run, index)
        return run, data.root

    return make
