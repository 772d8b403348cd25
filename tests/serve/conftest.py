"""A hand-made clip with real JPEGs, and a small model at random; no world has to be generated for the service."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from sead_ray.client import ScoringClient
from sead_ray.config import ImageConfig, ModelConfig, ScoreConfig, ServeConfig
from sead_ray.geometry import Pose, quaternion_from_heading
from sead_ray.model.vad import build_model
from sead_ray.model.weights import load_model, save_model
from sead_ray.nuscenes.can_bus import CanPoses, can_bus_vector
from sead_ray.nuscenes.commands import command_of, ego_future
from sead_ray.records import CAMERAS, Camera, Clip, ClipScore, Command, Frame
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import load_clip
from sead_ray.stages.clip_scores import score_loaded_clips
from sead_ray.storage import Store
from serve.api import build_api
from serve.models import OneModel
from serve.scorer import LocalScorer

WIDTH, HEIGHT, FRAMES = 160, 90, 4
START_US = 1_532_402_927_000_000
INTRINSICS = np.array([[126.6, 0.0, 81.6], [0.0, 126.6, 49.1], [0.0, 0.0, 1.0]])
# Optical axis along the heading: camera x right, y down, z forward in an ego frame x forward, y left, z up.
FORWARD = np.array([0.5, -0.5, 0.5, -0.5])
HEADINGS_RAD = dict(zip(CAMERAS, np.deg2rad([0.0, -55.0, 55.0, 180.0, 110.0, -110.0])))
SMALL: dict = {"bev_h": 20, "bev_w": 10, "agent_queries": 20, "map_instances": 10, "embed_dims": 32, "ffn_dims": 64}
IMAGE, SCORE = ImageConfig(width=WIDTH), ScoreConfig()


@pytest.fixture(scope="session")
def make_jpeg() -> Callable[..., bytes]:
    """(rng, width, height) to the bytes of a JPEG."""
    return jpeg


def jpeg(rng: np.random.Generator, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    coarse = rng.integers(0, 256, (9, 16, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(out, "JPEG", quality=90)
    return out.getvalue()


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("uploads")
    rng = np.random.default_rng(5)
    for index in range(FRAMES):
        for name in CAMERAS:
            path = root / _key(index, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(rng))
    return str(root)


@pytest.fixture(scope="session")
def clip() -> Clip:
    """A drive round a bend to the left, with CAN values."""
    return make_clip(with_can=True)


@pytest.fixture(scope="session")
def clip_without_can() -> Clip:
    return make_clip(with_can=False)


@pytest.fixture(scope="session")
def served_run(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run folder whose round 1 has a published model, and round 2 one that is not published."""
    torch.manual_seed(0)
    run = Store(str(tmp_path_factory.mktemp("served") / "run"))
    for number in (0, 1, 2):
        model = build_model(ModelConfig(preset="vad_nano", overrides=SMALL))
        info = {"round": number, "seed": 0, "image": IMAGE.model_dump(), "score": SCORE.model_dump()}
        card = save_model(run, layout.model(number), model, info)
        if number < 2:
            run.publish(layout.model(number), {"model_version": card["model_version"]})
    return run


@pytest.fixture(scope="session")
def model_dir(served_run: Store) -> str:
    return served_run.path(layout.model(1))


@pytest.fixture(scope="module")
def scorer(model_dir: str) -> LocalScorer:
    return LocalScorer(model_dir, "cpu")


@pytest.fixture(scope="module")
def serving(scorer: LocalScorer, data_root: str) -> Iterator[Callable[..., ScoringClient]]:
    """(scorer, limits…) to a client of a service in this process. Each is one app with its own event loop."""
    opened: list[TestClient] = []

    def serve(use: LocalScorer = scorer, token: str | None = None, **limits: Any) -> ScoringClient:
        settings = ServeConfig(**{"storage_prefixes": [data_root], **limits})
        http = TestClient(build_api(OneModel(use), settings), raise_server_exceptions=False)
        http.__enter__()
        opened.append(http)
        return ScoringClient("", token, first_wait_s=0.01, http=http)

    yield serve
    for http in opened:
        http.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client(serving: Callable[..., ScoringClient]) -> ScoringClient:
    return serving()


@pytest.fixture(scope="module")
def expected(clip: Clip, data_root: str, served_run: Store) -> ClipScore:
    """By the pool's arithmetic."""
    model, card = load_model(served_run, layout.model(1))
    loaded = load_clip(clip, data_root, ImageConfig(**card["info"]["image"]))
    return score_loaded_clips(model, card["model_version"], [loaded], "cpu", ScoreConfig())[0]


def make_clip(with_can: bool) -> Clip:
    frames = [_frame(index, with_can) for index in range(FRAMES)]
    poses = np.stack([frame.global_from_lidar for frame in frames])
    commands = [command_of(ego_future(poses, index)[0]) for index in range(FRAMES)]
    return Clip(
        clip_token="clip-a",
        name="scene-0001",
        log_token="log",
        location="singapore-onenorth",
        split="pool",
        description="",
        is_night=False,
        is_rainy=False,
        behaviour="left",
        acc_std_mps2=0.1,
        yaw_sum_rad=0.6,
        dynamics_source="can" if with_can else "pose",
        frames=tuple(Frame(**{**vars(frame), "command": command}) for frame, command in zip(frames, commands)),
    )


def _frame(index: int, with_can: bool) -> Frame:
    timestamp_us = START_US + 500_000 * index
    heading_rad = 0.2 * index
    pose = Pose((600.0 + 4 * index, 1600.0 + 0.4 * index**2, 0.0), quaternion_from_heading(heading_rad))
    motion = np.array([[0.3, 0.8, 9.8, 0.01, 0.02, 0.4, 8.0 + index, 0.1, 0.0]])
    can = CanPoses(np.array([timestamp_us]), motion, np.zeros(1)) if with_can else None
    cameras = []
    for name in CAMERAS:
        moved = Pose((pose.translation_m[0] + 0.1, pose.translation_m[1], 0.0), pose.rotation_wxyz)
        turn = quaternion_from_heading(float(HEADINGS_RAD[name]))
        ego_from_camera = Pose((1.7, 0.0, 1.5), _product(np.array(turn), FORWARD))
        size = {"width": WIDTH, "height": HEIGHT, "timestamp_us": timestamp_us + 12_000}
        cameras.append(
            Camera(
                name=name,
                key=_key(index, name),
                intrinsics=INTRINSICS,
                ego_from_camera=ego_from_camera,
                global_from_ego=moved,
                **size,
            )
        )
    return Frame(
        token=f"sample-{index}",
        timestamp_us=timestamp_us,
        global_from_ego=pose,
        ego_from_lidar=Pose((0.94, 0.0, 1.84), quaternion_from_heading(-np.pi / 2)),
        can_bus=can_bus_vector(timestamp_us, pose, can),
        command=Command.STRAIGHT,
        cameras=tuple(cameras),
    )


def _product(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    w, x, y, z = a
    left = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    qw, qx, qy, qz = map(float, left @ b)
    return (qw, qx, qy, qz)


def _key(index: int, name: str) -> str:
    return str(Path("samples") / name / f"{index:03d}.jpg")
