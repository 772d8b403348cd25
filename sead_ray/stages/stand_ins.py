"""A decoder and a model that return at once, and a pool for them: they show what the pipeline itself can do, and hold
nothing that a driving model would see. Their model version says `stand-in` in every score."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sead_ray.config import ImageConfig
from sead_ray.geometry import Pose, quaternion_from_heading
from sead_ray.model.contract import FrameBatch, PlannerOutput
from sead_ray.model.inference import Precision
from sead_ray.nuscenes.images import ImageGeometry
from sead_ray.records import CAMERAS, FUTURE_STEPS, Camera, Clip, Command, Frame
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import LoadedClip
from sead_ray.storage import Store

MODEL, VERSION = "stand_in_model", "stand-in"
TEMPLATES = 64  # different clips; the others repeat them under names of their own
ROWS_A_GROUP = 256
_AGENTS, _INSTANCES, _POINTS, _CHANNELS, _MODES = 16, 8, 2, 16, 2
_GEOMETRY = ImageGeometry(1600, 900, 1 / 1600, 1, 1, 1)


def write_pool(run: Store, clips: int, frames: int) -> None:
    """Publishes a pool of `clips` clips of `frames` frames, without images; nothing where it is there."""
    facts = {"pool_clips": clips, "pool_frames": clips * frames, "val_clips": 0, "val_frames": 0}
    if run.is_published(layout.CLIPS):
        known = run.manifest(layout.CLIPS)
        if all(known[key] == value for key, value in facts.items()):
            return
        run.remove(layout.CLIPS)
    rows = [_clip(number, frames).to_row() for number in range(TEMPLATES)]
    templates = pa.Table.from_pylist(rows, schema=CLIP_SCHEMA)
    run.write_groups(layout.CLIPS_FILE, _renamed(templates, clips), CLIP_SCHEMA)
    run.write_json(f"{MODEL}/model.json", {"model_version": VERSION})
    run.publish(layout.CLIPS, facts)


def _renamed(templates: pa.Table, clips: int) -> Iterator[pa.Table]:
    place = CLIP_SCHEMA.get_field_index("clip_token")
    for start in range(0, clips, ROWS_A_GROUP):
        numbers = range(start, min(start + ROWS_A_GROUP, clips))
        tokens = [hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest() for number in numbers]  # as nuScenes'
        yield templates.take([number % TEMPLATES for number in numbers]).set_column(place, "clip_token", [tokens])


def _clip(number: int, frames: int) -> Clip:
    return Clip(
        clip_token="",
        name="stand-in",
        log_token="stand-in",
        location="nowhere",
        split="pool",
        description="Stand-in",
        is_night=number % 4 == 0,
        is_rainy=number % 3 == 0,
        behaviour=("straight", "left", "right", "overtake")[number % 4],
        acc_std_mps2=number / TEMPLATES,
        yaw_sum_rad=(number * 7 % TEMPLATES) / TEMPLATES,
        dynamics_source="can",
        frames=tuple(_frame(number, t) for t in range(frames)),
    )


def _frame(number: int, t: int) -> Frame:
    pose = Pose((t * (1.0 + number / 8), 0.0, 0.0), quaternion_from_heading(0.0))
    cameras = tuple(
        Camera(name, "", 1600, 900, t * 500_000, np.eye(3), Pose((0.0, 0.0, 1.5), (1.0, 0.0, 0.0, 0.0)), pose)
        for name in CAMERAS
    )
    can_bus = np.full(18, (number + 1) * (t + 1) / TEMPLATES)
    return Frame(f"{number}-{t}", t * 500_000, pose, pose, can_bus, Command.STRAIGHT, cameras)


def decode_at_once(clip: Clip, data_root: str, image: ImageConfig) -> LoadedClip:
    """In the place of `load_clip`: black images of one pixel. Counts itself, below `data_root`."""
    _count(data_root)
    return LoadedClip(clip, np.zeros((len(clip.frames), len(CAMERAS), 1, 1, 3), np.uint8), _GEOMETRY)


def _count(folder: str) -> None:
    file = _counter(folder)
    file[1] += 1
    os.pwrite(file[0], file[1].to_bytes(8, "little"), 0)


@lru_cache(maxsize=1)
def _counter(folder: str) -> list[int]:
    """Descriptor of this process's file, and how often it decoded."""
    os.makedirs(folder, exist_ok=True)
    return [os.open(f"{folder}/{os.getpid()}-{os.urandom(4).hex()}", os.O_CREAT | os.O_WRONLY), 0]


def decoded_in(folder: str) -> int:
    """How often clips were decoded in all, by processes dead or alive."""
    if not os.path.isdir(folder):
        return 0
    return sum(int.from_bytes(Path(folder, name).read_bytes(), "little") for name in os.listdir(folder))


def model_at_once(_root: str, _key: str, device: str, _precision: Precision) -> tuple[Any, str]:
    """In the place of `ready_model`."""
    return _StandInModel(device), VERSION


class _StandInModel:
    """The outputs of a small planner without its computation. Features follow from the frame's CAN values, so that a
    clip's score is its own, whichever batch it was in."""

    bev_hw = (1, 1)

    def __init__(self, device: str) -> None:
        self._device = device
        self._grid = torch.linspace(0, 1, _AGENTS * _CHANNELS, device=device).reshape(1, _AGENTS, _CHANNELS)

    def __call__(self, frame: FrameBatch, history: Tensor | None) -> PlannerOutput:
        rows = len(frame.can_bus)
        features = self._grid * frame.can_bus[:, 4:5, None].float()
        zeros = torch.zeros(rows, _AGENTS, 10, device=self._device)
        return PlannerOutput(
            bev=features[:, :1],
            agent_features=features,
            map_features=features[:, :_INSTANCES, None].expand(-1, -1, _POINTS, -1),
            agent_scores=zeros + 0.6,
            agent_centers_m=zeros[..., :2] + 4.0,
            mode_trajectories_m=zeros.new_zeros(rows, _AGENTS, _MODES, FUTURE_STEPS, 2),
            mode_probabilities=zeros[..., :_MODES] + 1 / _MODES,
            plans_m=zeros.new_zeros(rows, 3, FUTURE_STEPS, 2),
        )
