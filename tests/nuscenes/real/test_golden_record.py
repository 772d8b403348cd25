"""A published info in VAD's format, rebuilt: its raw parts become a nuScenes folder, from which every field comes back.

The record's scene is in no folder at hand. What was measured (poses, calibrations, CAN messages, annotations) is put
into tables, the frames around it where its trajectories say that they were; what VAD's converter derived must follow.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyquaternion import Quaternion

from sead_ray.config import DataConfig
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.vad_info import drive_info, label_info
from sead_ray.records import CAMERAS

BEFORE, AFTER = 4, 6
STEP_US = 500_000
STEER_RAD = 0.1309716  # the record's curvature times half the wheelbase of 2.588 m


def matrix(translation: Any, rotation: Any) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = Quaternion(rotation).rotation_matrix, translation
    return out


class RecordFolder:
    """Tables of one scene of eleven key frames; the record is the fifth."""

    def __init__(self, record: dict[str, Any], root: Path) -> None:
        self.record, self.root = record, root
        self.ego_from_lidar = matrix(record["lidar2ego_translation"], record["lidar2ego_rotation"])
        self.global_from_lidar = self.matrix_of(record, "ego2global") @ self.ego_from_lidar
        self.tables: dict[str, list[dict[str, Any]]] = {
            "log": [{"token": "log", "location": record["map_location"]}],
            "sensor": [{"token": name, "channel": name} for name in (*CAMERAS, "LIDAR_TOP")],
            **{name: [] for name in ("sample", "sample_data", "ego_pose", "calibrated_sensor", "sample_annotation")},
            **{name: [] for name in ("instance", "category")},
        }
        self.add_scene()
        self.add_annotations()
        for name, rows in self.tables.items():
            self.write(f"v1.0-mini/{name}.json", rows)
        self.write_can()

    @staticmethod
    def matrix_of(row: dict[str, Any], name: str) -> np.ndarray:
        return matrix(row[f"{name}_translation"], row[f"{name}_rotation"])

    def write(self, name: str, value: Any) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    def token(self, step: int) -> str:
        if step in (-1, 0, 1):
            return self.record[{-1: "prev", 0: "token", 1: "next"}[step]]
        return f"frame{step}"

    def add_scene(self) -> None:
        record, steps = self.record, list(range(-BEFORE, AFTER + 1))
        self.tables["scene"] = [
            {"token": record["scene_token"], "name": "scene-0900", "log_token": "log", "description": ""}
            | {"first_sample_token": self.token(steps[0]), "nbr_samples": len(steps)}
        ]
        self.add_calibrations()
        for step in steps:
            following = self.token(step + 1) if step < AFTER else ""
            time_us = record["timestamp"] + step * STEP_US
            self.tables["sample"].append({"token": self.token(step), "timestamp": time_us, "next": following})
            pose = self.ego_pose(step)
            for name in (*CAMERAS, "LIDAR_TOP"):
                self.add_data(step, name, time_us, pose)

    def add_calibrations(self) -> None:
        rows = {name: self.record["cams"][name] for name in CAMERAS}
        for name, row in rows.items():
            self.tables["calibrated_sensor"].append(
                {"token": name, "sensor_token": name, "camera_intrinsic": row["cam_intrinsic"]}
                | {"translation": row["sensor2ego_translation"], "rotation": row["sensor2ego_rotation"]}
            )
        self.tables["calibrated_sensor"].append(
            {"token": "LIDAR_TOP", "sensor_token": "LIDAR_TOP", "camera_intrinsic": []}
            | {"translation": self.record["lidar2ego_translation"], "rotation": self.record["lidar2ego_rotation"]}
        )

    def ego_pose(self, step: int) -> dict[str, Any]:
        """Recorded for the frame and the one before (its tenth sweep); elsewhere the lidar is where the record's
        trajectory puts it, turned as in the frame."""
        if step == 0:
            return self.record
        if step == -1:
            return self.record["sweeps"][9]
        path = self.record["gt_ego_his_trajs"] if step < 0 else self.record["gt_ego_fut_trajs"]
        x, y = path[step + BEFORE] if step < 0 else path[step]
        origin = (self.global_from_lidar @ [x, y, 0.0, 1.0])[:3]
        rotation = Quaternion(self.record["ego2global_rotation"]).rotation_matrix
        translation = origin - rotation @ self.record["lidar2ego_translation"]
        return {"ego2global_translation": translation, "ego2global_rotation": self.record["ego2global_rotation"]}

    def add_data(self, step: int, name: str, time_us: int, pose: dict[str, Any]) -> None:
        file = f"samples/{name}/{step}.jpg"
        if step == 0 and name in CAMERAS:
            pose = self.record["cams"][name]
            file, time_us = pose["data_path"], pose["timestamp"]
        token = f"{name}{step}"
        (self.root / file).parent.mkdir(parents=True, exist_ok=True)
        (self.root / file).touch()
        self.tables["ego_pose"].append(
            {"token": token, "translation": list(pose["ego2global_translation"])}
            | {"rotation": list(pose["ego2global_rotation"])}
        )
        self.tables["sample_data"].append(
            {"token": token, "sample_token": self.token(step), "ego_pose_token": token, "is_key_frame": True}
            | {"calibrated_sensor_token": name, "timestamp": time_us, "filename": file, "width": 1600, "height": 900}
        )

    def add_annotations(self) -> None:
        """Each box where it is and where its trajectory leads; the one before, where its velocity says."""
        record = self.record
        for index, box in enumerate(record["gt_boxes"]):
            name = record["gt_names"][index]
            if name not in {row["name"] for row in self.tables["category"]}:
                self.tables["category"].append({"token": name, "name": name})
            self.tables["instance"].append({"token": f"i{index}", "category_token": name})
            steps = np.reshape(record["gt_agent_fut_trajs"][index], (6, 2))
            count = int(np.sum(record["gt_agent_fut_masks"][index]))
            xy, heading = np.array(box[:2]), -(box[6] + np.pi / 2)
            self.add_annotation(index, 0, xy, heading)
            for step in range(count):
                xy, heading = xy + steps[step], heading + record["gt_agent_fut_yaw"][index][step]
                self.add_annotation(index, step + 1, xy, heading)
            velocity = np.array(record["gt_velocity"][index], np.float64)
            if not np.isnan(velocity).any():  # of the global ground plane, seen in the tilted lidar's x and y
                plane = np.linalg.solve(self.global_from_lidar[:2, :2].T, velocity)
                ahead = self.tables["sample_annotation"][-max(count, 1)]["translation"]
                behind = np.array(ahead[:2]) - plane * (1.0 if count else 0.5)
                self.add_annotation(index, -1, np.array(box[:2]), -(box[6] + np.pi / 2))
                self.tables["sample_annotation"][-1]["translation"][:2] = behind.tolist()

    def add_annotation(self, index: int, step: int, xy: np.ndarray, heading: float) -> None:
        box = self.record["gt_boxes"][index]
        upright = heading + np.arctan2(self.global_from_lidar[1, 0], self.global_from_lidar[0, 0])
        self.tables["sample_annotation"].append(
            {"token": f"a{index}:{step}", "sample_token": self.token(step), "instance_token": f"i{index}"}
            | {"translation": list((self.global_from_lidar @ [*xy, box[2], 1.0])[:3]), "size": box[3:6]}
            | {"rotation": [float(np.cos(upright / 2)), 0.0, 0.0, float(np.sin(upright / 2))]}
            | {"num_lidar_pts": self.record["num_lidar_pts"][index]}
            | {"num_radar_pts": self.record["num_radar_pts"][index]}
        )

    def write_can(self) -> None:
        time_us, rates = self.record["timestamp"], self.record["can_bus"][7:16]
        speed = self.record["gt_ego_lcf_feat"][7]

        def message(at_us: int, values: list[float]) -> dict[str, Any]:
            parts = {"accel": values[:3], "rotation_rate": values[3:6], "vel": values[6:]}
            return {"utime": at_us, "pos": [0, 0, 0], "orientation": [1, 0, 0, 0], **parts}

        nearest = message(time_us - 3_000, [0.0] * 6 + [speed, 0.0, 0.0])
        self.write("can_bus/scene-0900_pose.json", [nearest, message(time_us + 12_000, rates)])
        steering = [{"utime": time_us + 4_000, "value": STEER_RAD}]
        self.write("can_bus/scene-0900_steeranglefeedback.json", steering)


@pytest.fixture(scope="module")
def rebuilt(golden_record: dict[str, Any], real_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("record")
    RecordFolder(golden_record, root)
    (root / "maps").symlink_to(real_root / "maps")
    folder = NuScenesFolder(DataConfig(root=str(root), version="v1.0-mini"))
    token = golden_record["scene_token"]
    clip = folder.clip(token, "pool")
    labels = {item.frame_token: item for item in folder.labels(token)}
    return drive_info(clip, BEFORE) | label_info(clip, BEFORE, labels)


def close(ours: Any, theirs: Any) -> bool:
    return np.allclose(np.asarray(ours, np.float64), np.asarray(theirs, np.float64), rtol=0, atol=1e-3)


@pytest.mark.parametrize("field", ["token", "prev", "next", "scene_token", "timestamp", "map_location"])
def test_tokens_and_time(rebuilt: dict[str, Any], golden_record: dict[str, Any], field: str) -> None:
    assert rebuilt[field] == golden_record[field]


@pytest.mark.parametrize("camera", CAMERAS)
def test_cameras(rebuilt: dict[str, Any], golden_record: dict[str, Any], camera: str) -> None:
    ours, theirs = rebuilt["cams"][camera], golden_record["cams"][camera]
    for field in ("data_path", "timestamp"):
        assert ours[field] == theirs[field]
    for field in ("sensor2ego", "ego2global", "sensor2lidar"):
        assert close(ours[f"{field}_translation"], theirs[f"{field}_translation"])
        assert close(ours[f"{field}_rotation"], theirs[f"{field}_rotation"])
    assert close(ours["cam_intrinsic"], theirs["cam_intrinsic"])


@pytest.mark.parametrize("field", ["lidar2ego", "ego2global"])
def test_poses(rebuilt: dict[str, Any], golden_record: dict[str, Any], field: str) -> None:
    assert close(rebuilt[f"{field}_translation"], golden_record[f"{field}_translation"])
    assert close(rebuilt[f"{field}_rotation"], golden_record[f"{field}_rotation"])


def test_can_vector_and_ego_state(rebuilt: dict[str, Any], golden_record: dict[str, Any]) -> None:
    # [0:7] of the file is a CAN message, 0.4 m off, which VAD replaces by the ego pose when it reads the file
    assert close(rebuilt["can_bus"][7:16], golden_record["can_bus"][7:16])
    assert np.linalg.norm(rebuilt["can_bus"][:3] - golden_record["can_bus"][:3]) < 0.5
    assert close(rebuilt["gt_ego_lcf_feat"], golden_record["gt_ego_lcf_feat"])


def test_ego_path_and_command(rebuilt: dict[str, Any], golden_record: dict[str, Any]) -> None:
    # the record keeps positions beside the steps, and four steps of history instead of VAD's two
    assert close(rebuilt["gt_ego_his_trajs"], golden_record["gt_ego_his_diff"][-2:])
    assert close(rebuilt["gt_ego_fut_trajs"], golden_record["gt_ego_fut_diff"])
    assert close(rebuilt["gt_ego_fut_trajs"].cumsum(axis=0), golden_record["gt_ego_fut_trajs"][1:])
    assert close(rebuilt["gt_ego_fut_masks"], golden_record["gt_ego_fut_masks"])
    assert close(rebuilt["gt_ego_fut_cmd"], golden_record["gt_ego_fut_cmd"])
    assert rebuilt["fut_valid_flag"] == golden_record["fut_valid_flag"]


@pytest.mark.parametrize(
    "field",
    [
        *("gt_boxes", "gt_velocity", "num_lidar_pts", "num_radar_pts", "valid_flag", "gt_agent_fut_trajs"),
        *("gt_agent_fut_masks", "gt_agent_fut_goal"),
    ],
)
def test_agents(rebuilt: dict[str, Any], golden_record: dict[str, Any], field: str) -> None:
    assert close(rebuilt[field], golden_record[field])


def test_agent_turns_up_to_whole_ones(rebuilt: dict[str, Any], golden_record: dict[str, Any]) -> None:
    apart = rebuilt["gt_agent_fut_yaw"] - np.array(golden_record["gt_agent_fut_yaw"])
    assert close((apart + np.pi) % (2 * np.pi) - np.pi, np.zeros_like(apart))


def test_agent_state_but_for_the_category_table(rebuilt: dict[str, Any], golden_record: dict[str, Any]) -> None:
    ours, theirs = rebuilt["gt_agent_lcf_feat"], np.array(golden_record["gt_agent_lcf_feat"])
    assert close(ours[:, :8], theirs[:, :8])
    pairs = {(int(a), int(b)) for a, b in zip(ours[:, 8], theirs[:, 8])}  # one to one between two tables
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_names(rebuilt: dict[str, Any], golden_record: dict[str, Any]) -> None:
    # this file has nuScenes' own names, VAD's converter writes detection classes
    assert [name.split(".")[-1] for name in golden_record["gt_names"]] == [
        {"pedestrian": "adult", "traffic_cone": "trafficcone"}.get(str(name), str(name)) for name in rebuilt["gt_names"]
    ]
