"""A nuScenes folder made by hand: four scenes of eight frames on arcs, 160 x 90 images, a map of one location."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sead_ray.config import DataConfig
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.records import CAMERAS

VERSION = "v1.0-mini"
FRAMES = 8
LOCATION = "boston-seaport"
WIDTH, HEIGHT = 160, 90
CAMERA_YAW_DEG = {
    "CAM_FRONT": 0,
    "CAM_FRONT_RIGHT": -55,
    "CAM_FRONT_LEFT": 55,
    "CAM_BACK": 180,
    "CAM_BACK_LEFT": 110,
    "CAM_BACK_RIGHT": -110,
}
# name, log, description, yaw rate, with CAN files
SCENES = [
    ("scene-0001", "log-a", "Turn right, rainy, many peds", -0.15, True),
    ("scene-0002", "log-b", "Night, turn left, train station", 0.15, False),
    ("scene-0003", "log-a", "Straight road, drained pond, overnight parking", 0.0, True),
    ("scene-0161", "log-a", "Rain at NIGHT", 0.02, True),  # in the devkit's list of scenes without CAN
]
# category, start in the ego frame of frame 0, velocity in global axes, lidar and radar points
OBJECTS = [
    ("vehicle.car", (12.0, 2.0, 0.8), (4.0, 0.5), 9, 1),
    ("human.pedestrian.adult", (8.0, -4.0, 0.9), (0.0, 1.2), 4, 0),
    ("vehicle.truck", (10.0, 6.0, 1.5), (0.0, 0.0), 0, 3),
    ("vehicle.car", (90.0, 0.0, 0.8), (0.0, 0.0), 2, 0),
    ("animal", (6.0, 1.0, 0.3), (0.3, 0.0), 5, 0),
]


def quaternion_product(a: tuple[float, ...], b: tuple[float, ...]) -> list[float]:
    w, x, y, z = a
    p, q, r, s = b
    return [
        w * p - x * q - y * r - z * s,
        w * q + x * p + y * s - z * r,
        w * r - x * s + y * p + z * q,
        w * s + x * r - y * q + z * p,
    ]


def about_z(yaw_rad: float) -> tuple[float, float, float, float]:
    return (float(np.cos(yaw_rad / 2)), 0.0, 0.0, float(np.sin(yaw_rad / 2)))


def ego_state(scene: int, time_s: float) -> tuple[np.ndarray, float]:
    """Position (x, y) and yaw on the scene's arc, 8 m/s."""
    yaw_rate = SCENES[scene][3]
    yaw = 0.4 + yaw_rate * time_s
    start = np.array([200.0 + 60 * scene, 300.0])
    if yaw_rate == 0:
        return start + 8 * time_s * np.array([np.cos(yaw), np.sin(yaw)]), yaw
    return start + 8 / yaw_rate * np.array([np.sin(yaw) - np.sin(0.4), np.cos(0.4) - np.cos(yaw)]), yaw


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_folder(root: Path) -> None:
    tables: dict[str, list[dict[str, Any]]] = {
        "sensor": [{"token": f"sensor-{name}", "channel": name, "modality": "x"} for name in (*CAMERAS, "LIDAR_TOP")],
        "log": [{"token": log, "location": LOCATION} for log in ("log-a", "log-b")],
        "category": [{"token": f"cat-{name}", "name": name} for name in sorted({item[0] for item in OBJECTS})],
        **{name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "sample_annotation", "instance")},
    }
    tables["calibrated_sensor"] = calibrated_rows()
    for scene in range(len(SCENES)):
        write_scene(root, scene, tables)
    for name, rows in tables.items():
        write_json(root / VERSION / f"{name}.json", rows)
    write_json(root / "splits.json", {"train": ["scene-0001", "scene-0003", "scene-0161"], "val": ["scene-0002"]})
    write_json(root / "maps" / "expansion" / f"{LOCATION}.json", map_json())


def calibrated_rows() -> list[dict[str, Any]]:
    focal = 126.6
    rows = [
        {
            "token": f"cal-{name}",
            "sensor_token": f"sensor-{name}",
            "translation": [1.5, 0.0, 1.5],
            "rotation": quaternion_product(about_z(np.radians(yaw)), (0.5, -0.5, 0.5, -0.5)),
            "camera_intrinsic": [[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]],
        }
        for name, yaw in CAMERA_YAW_DEG.items()
    ]
    lidar = {"translation": [0.94, 0.0, 1.84], "rotation": about_z(-np.pi / 2), "camera_intrinsic": []}
    return [*rows, {"token": "cal-LIDAR_TOP", "sensor_token": "sensor-LIDAR_TOP", **lidar}]


def write_scene(root: Path, scene: int, tables: dict[str, list[dict[str, Any]]]) -> None:
    name, log, description, _, with_can = SCENES[scene]
    start_us = 1_500_000_000_000_000 + scene * 10**9
    tokens = [f"{name}-{frame}" for frame in range(FRAMES)]
    tables["scene"].append(
        {"token": f"token-{name}", "name": name, "log_token": log, "description": description}
        | {"first_sample_token": tokens[0], "last_sample_token": tokens[-1], "nbr_samples": FRAMES}
    )
    for frame, token in enumerate(tokens):
        links = {"prev": tokens[frame - 1] if frame else "", "next": tokens[frame + 1] if frame + 1 < FRAMES else ""}
        time_us = start_us + frame * 500_000
        tables["sample"].append({"token": token, "timestamp": time_us, "scene_token": f"token-{name}", **links})
        for channel in (*CAMERAS, "LIDAR_TOP"):
            write_sample_data(root, scene, token, channel, time_us, start_us, tables)
    write_annotations(scene, tokens, tables)
    if with_can:
        write_json(root / "can_bus" / f"{name}_pose.json", can_messages(scene, start_us))
        write_json(root / "can_bus" / f"{name}_meta.json", {})


def write_sample_data(
    root: Path, scene: int, sample: str, channel: str, time_us: int, start_us: int, tables: dict[str, list[Any]]
) -> None:
    key = f"samples/{channel}/{sample}.{'bin' if channel == 'LIDAR_TOP' else 'jpg'}"
    token = f"data-{sample}-{channel}"
    own_us = time_us - (0 if channel == "LIDAR_TOP" else 20_000)
    position, yaw = ego_state(scene, (own_us - start_us) * 1e-6)
    tables["ego_pose"].append({"token": token, "translation": [*position, 0.0], "rotation": about_z(yaw)})
    for key_frame in (True, False):  # a sweep beside each key frame, which nobody may take
        tables["sample_data"].append(
            {"token": token if key_frame else f"{token}-sweep", "sample_token": sample, "ego_pose_token": token}
            | {"calibrated_sensor_token": f"cal-{channel}", "timestamp": own_us, "is_key_frame": key_frame}
            | {"filename": key if key_frame else "sweeps/none", "width": WIDTH, "height": HEIGHT}
        )
    if channel != "LIDAR_TOP":
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(CAMERAS.index(channel) + time_us).integers(0, 255, (9, 16, 3))
        cv2.imwrite(str(path), cv2.resize(pixels.astype(np.uint8), (WIDTH, HEIGHT)))


def write_annotations(scene: int, tokens: list[str], tables: dict[str, list[dict[str, Any]]]) -> None:
    origin, yaw = ego_state(scene, 0.0)
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    for number, (category, place, velocity, n_lidar, n_radar) in enumerate(OBJECTS):
        instance = f"instance-{scene}-{number}"
        tables["instance"].append({"token": instance, "category_token": f"cat-{category}"})
        for frame, sample in enumerate(tokens):
            xy = origin + turn @ np.array(place[:2]) + np.array(velocity) * 0.5 * frame
            tables["sample_annotation"].append(
                {"token": f"{instance}-{frame}", "sample_token": sample, "instance_token": instance}
                | {"translation": [*xy, place[2]], "size": [1.9, 4.5, 1.6], "rotation": about_z(yaw + 0.05 * frame)}
                | {"num_lidar_pts": n_lidar, "num_radar_pts": n_radar}
            )


def can_messages(scene: int, start_us: int) -> list[dict[str, Any]]:
    messages = []
    for number in range(-2, 50 * FRAMES // 2 + 2):
        time_s = number / 50 + 0.003
        position, yaw = ego_state(scene, time_s)
        messages.append(
            {"utime": start_us + round(time_s * 1e6), "pos": [*position, 0.0], "orientation": about_z(yaw)}
            | {"accel": [0.1, 0.5 * np.sin(time_s), 9.8], "rotation_rate": [0.0, 0.0, SCENES[scene][3]]}
            | {"vel": [8.0, 0.0, float(number)]}
        )
    return messages


def map_json() -> dict[str, Any]:
    """Roads of one segment with a hole, a lane beside it, a divider and two crossings that touch."""
    layers = ("polygon", "line", "node", "drivable_area", "road_segment", "road_block", "lane", "ped_crossing")
    layers += ("walkway", "stop_line", "carpark_area", "lane_connector", "road_divider", "lane_divider")
    out: dict[str, Any] = {layer: [] for layer in (*layers, "traffic_light")}
    out |= {"version": "1.3", "canvas_edge": [1000.0, 1000.0], "arcline_path_3": {}, "connectivity": {}}

    def nodes(points: list[tuple[float, float]]) -> list[str]:
        names = [f"node-{len(out['node']) + index}" for index in range(len(points))]
        out["node"] += [{"token": name, "x": x, "y": y} for name, (x, y) in zip(names, points, strict=True)]
        return names

    def polygon(layer: str, points: list[tuple[float, float]], hole: list[tuple[float, float]] | None = None) -> None:
        token = f"polygon-{len(out['polygon'])}"
        holes = [{"node_tokens": nodes(hole)}] if hole else []
        out["polygon"].append({"token": token, "exterior_node_tokens": nodes(points), "holes": holes})
        out[layer].append({"token": f"{layer}-{token}", "polygon_token": token, "exterior_node_tokens": nodes(points)})
        out[layer][-1] |= {"holes": holes, "left_lane_divider_segments": [], "right_lane_divider_segments": []}

    def line(layer: str, points: list[tuple[float, float]]) -> None:
        token = f"line-{len(out['line'])}"
        out["line"].append({"token": token, "node_tokens": nodes(points)})
        out[layer].append({"token": f"{layer}-{token}", "line_token": token, "node_tokens": nodes(points)})

    polygon(
        "road_segment",
        [(100, 290), (600, 290), (600, 400), (100, 400)],
        [(204, 304), (208, 304), (208, 307), (204, 307)],
    )
    polygon("lane", [(100, 285), (600, 285), (600, 295), (100, 295)])
    polygon("ped_crossing", [(210, 298), (214, 298), (214, 308), (210, 308)])
    polygon("ped_crossing", [(212, 298), (216, 298), (216, 308), (212, 308)])
    line("road_divider", [(150, 303), (250, 303), (400, 303)])
    line("lane_divider", [(0, 0), (5, 5)])
    return out


@pytest.fixture(scope="session")
def pristine_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nuscenes")
    write_folder(root)
    return root


@pytest.fixture
def damaged_copy(pristine_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(pristine_folder, tmp_path / "copy"))


@pytest.fixture(scope="session")
def data_config(pristine_folder: Path) -> DataConfig:
    return DataConfig(root=str(pristine_folder), version=VERSION)


@pytest.fixture(scope="session")
def folder(data_config: DataConfig) -> NuScenesFolder:
    return NuScenesFolder(data_config)


@pytest.fixture
def edit_table() -> Callable[[Path, str, Callable[[list[dict[str, Any]]], Any]], None]:
    """edit_table(root, name, change): `change` alters the list of rows in place."""

    def edit(root: Path, name: str, change: Callable[[list[dict[str, Any]]], Any]) -> None:
        path = root / VERSION / f"{name}.json"
        rows = json.loads(path.read_text())
        change(rows)
        path.write_text(json.dumps(rows))

    return edit
