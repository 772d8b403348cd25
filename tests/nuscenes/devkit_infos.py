"""Infos in VAD's format made with the nuScenes devkit and pyquaternion alone: the independent side of comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import transform_matrix
from pyquaternion import Quaternion

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")


class DevkitInfos:
    """Infos of a folder's scenes; `raw_names` leaves nuScenes' category names, as some published files do."""

    def __init__(self, root: str, version: str, raw_names: bool = False) -> None:
        self.nusc = NuScenes(version, root, verbose=False)
        self.can = NuScenesCanBus(dataroot=root)
        self.raw_names = raw_names
        self.category_index = {
            row["name"]: row.get("index", position) for position, row in enumerate(self.nusc.category)
        }

    def file(self, scene_names: list[str]) -> dict[str, Any]:
        """What VAD pickles for a split."""
        infos = [info for name in scene_names for info in self.scene(name)]
        return {"infos": infos, "metadata": {"version": self.nusc.version}}

    def scene(self, name: str) -> list[dict[str, Any]]:
        scene = next(scene for scene in self.nusc.scene if scene["name"] == name)
        samples, token = [], scene["first_sample_token"]
        while token:
            samples.append(self.nusc.get("sample", token))
            token = samples[-1]["next"]
        return [self.info(scene, samples, index) for index in range(len(samples))]

    def info(self, scene: dict[str, Any], samples: list[dict[str, Any]], index: int) -> dict[str, Any]:
        sample = samples[index]
        lidar = self.nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        mounted = self.nusc.get("calibrated_sensor", lidar["calibrated_sensor_token"])
        driven = self.nusc.get("ego_pose", lidar["ego_pose_token"])
        location = self.nusc.get("log", scene["log_token"])["location"]
        info: dict[str, Any] = {
            "token": sample["token"],
            "prev": sample["prev"],
            "next": sample["next"],
            "scene_token": scene["token"],
            "frame_idx": index,
            "timestamp": sample["timestamp"],
            "map_location": location,
            "lidar_path": f"./data/nuscenes/{lidar['filename']}",
            "sweeps": [],
            "lidar2ego_translation": mounted["translation"],
            "lidar2ego_rotation": mounted["rotation"],
            "ego2global_translation": driven["translation"],
            "ego2global_rotation": driven["rotation"],
            "can_bus": self.can_vector(scene["name"], sample["timestamp"]),
            "fut_valid_flag": index + 6 < len(samples),
            "cams": {camera: self.camera(sample["data"][camera], camera, mounted, driven) for camera in CAMERAS},
        }
        origins = self.lidar_origins(samples, mounted, driven)
        info |= self.ego(origins, index, len(samples))
        info["gt_ego_lcf_feat"] = self.ego_feature(scene["name"], location, samples, index, info)
        return info | self.agents(sample, mounted, driven)

    def can_vector(self, scene_name: str, time_us: int) -> np.ndarray:
        try:
            messages = self.can.get_messages(scene_name, "pose")
        except Exception:
            return np.zeros(18)
        later = [message for message in messages if message["utime"] > time_us]
        earlier = [message for message in messages if message["utime"] <= time_us]
        own, following = (earlier or messages[:1])[-1], (later or messages[-1:])[0]
        rates = [*following["accel"], *following["rotation_rate"], *following["vel"]]
        return np.array([*own["pos"], *own["orientation"], *rates, 0.0, 0.0])

    def camera(self, token: str, name: str, mounted: dict[str, Any], driven: dict[str, Any]) -> dict[str, Any]:
        data = self.nusc.get("sample_data", token)
        own_mount = self.nusc.get("calibrated_sensor", data["calibrated_sensor_token"])
        own_pose = self.nusc.get("ego_pose", data["ego_pose_token"])
        lidar_from_camera = (
            _matrix(mounted, inverse=True) @ _matrix(driven, inverse=True) @ _matrix(own_pose) @ _matrix(own_mount)
        )
        return {
            "data_path": f"./data/nuscenes/{data['filename']}",
            "type": name,
            "sample_data_token": token,
            "sensor2ego_translation": own_mount["translation"],
            "sensor2ego_rotation": own_mount["rotation"],
            "ego2global_translation": own_pose["translation"],
            "ego2global_rotation": own_pose["rotation"],
            "timestamp": data["timestamp"],
            "sensor2lidar_rotation": lidar_from_camera[:3, :3],
            "sensor2lidar_translation": lidar_from_camera[:3, 3],
            "cam_intrinsic": np.array(own_mount["camera_intrinsic"]),
        }

    def lidar_origins(self, samples: list[Any], mounted: dict[str, Any], driven: dict[str, Any]) -> np.ndarray:
        """(T, 2) of the scene's key frames in the current lidar frame."""
        local = _matrix(mounted, inverse=True) @ _matrix(driven, inverse=True)
        origins = []
        for sample in samples:
            data = self.nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
            pose = self.nusc.get("ego_pose", data["ego_pose_token"])
            mount = self.nusc.get("calibrated_sensor", data["calibrated_sensor_token"])
            origins.append((local @ _matrix(pose) @ _matrix(mount))[:2, 3])
        return np.array(origins)

    def ego(self, origins: np.ndarray, index: int, frames: int) -> dict[str, Any]:
        future = origins[[min(index + step, frames - 1) for step in range(7)]]
        mask = np.array([index + step < frames for step in range(1, 7)], np.float32)
        side = future[-1, 0]
        command = [1, 0, 0] if side >= 2 else [0, 1, 0] if side <= -2 else [0, 0, 1]
        steps = np.diff(origins, axis=0) if frames > 1 else np.zeros((1, 2))
        history = np.array([steps[max(index - 2, 0)], steps[max(index - 1, 0)]])
        return {
            "gt_ego_his_trajs": history.astype(np.float32),
            "gt_ego_fut_trajs": np.diff(future, axis=0).astype(np.float32),
            "gt_ego_fut_masks": mask,
            "gt_ego_fut_cmd": np.array(command, np.float32),
        }

    def ego_feature(
        self, scene_name: str, location: str, samples: list[Any], index: int, info: dict[str, Any]
    ) -> np.ndarray:
        poses = []
        for sample in samples[max(index - 1, 0) : index + 2]:
            data = self.nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
            poses.append(self.nusc.get("ego_pose", data["ego_pose_token"]))
        # the quaternion's four numbers taken in the order x, y, z, w: what upstream's converter does
        yaw = [Quaternion(q[3], q[0], q[1], q[2]) for q in (pose["rotation"] for pose in poses)]
        yaw = [np.arctan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.z**2 + q.y**2)) for q in yaw]
        speed = np.linalg.norm(np.subtract(poses[1]["translation"], poses[0]["translation"])[:2]) / 0.5
        now = yaw[1] if index else yaw[0]
        try:
            pose_messages = self.can.get_messages(scene_name, "pose")
            steering = self.can.get_messages(scene_name, "steeranglefeedback")
            nearest = min(pose_messages, key=lambda message: abs(message["utime"] - info["timestamp"]))
            angle = min(steering, key=lambda message: abs(message["utime"] - info["timestamp"]))["value"]
            can_speed, curvature = nearest["vel"][0], 2 * angle / 2.588 * (-1 if "singapore" in location else 1)
        except Exception:
            can_speed = np.linalg.norm(info["gt_ego_his_trajs"][-1] + info["gt_ego_fut_trajs"][0])
            curvature = 0.0
        velocity = speed * np.cos(now + np.pi / 2), speed * np.sin(now + np.pi / 2)
        turn = (yaw[1] - yaw[0]) / 0.5
        return np.array([*velocity, *info["can_bus"][7:9], turn, 4.084, 1.85, can_speed, curvature], np.float32)

    def agents(self, sample: dict[str, Any], mounted: dict[str, Any], driven: dict[str, Any]) -> dict[str, Any]:
        _, boxes, _ = self.nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        rows = [self.nusc.get("sample_annotation", token) for token in sample["anns"]]
        turn = Quaternion(mounted["rotation"]).inverse.rotation_matrix
        turn = turn @ Quaternion(driven["rotation"]).inverse.rotation_matrix
        velocity = np.array(
            [(turn @ [*self.nusc.box_velocity(token)[:2], 0.0])[:2] for token in sample["anns"]]
        ).reshape(-1, 2)
        lidar = np.array([row["num_lidar_pts"] for row in rows], np.int64)
        radar = np.array([row["num_radar_pts"] for row in rows], np.int64)
        futures = [self.future(row, box, mounted, driven) for row, box in zip(rows, boxes)]
        yaw = np.array([-box.orientation.yaw_pitch_roll[0] - np.pi / 2 for box in boxes]).reshape(-1, 1)
        gt_boxes = np.hstack([np.reshape([[*box.center, *box.wlh] for box in boxes], (-1, 6)), yaw])
        kinds = np.reshape([self.category_index[row["category_name"]] for row in rows], (-1, 1))
        feature = np.hstack([gt_boxes[:, :2], -(yaw + np.pi / 2), velocity, gt_boxes[:, 3:6], kinds])
        return {
            "gt_boxes": gt_boxes,
            "gt_names": np.array([self.name(row["category_name"]) for row in rows]),
            "gt_velocity": velocity,
            "num_lidar_pts": lidar,
            "num_radar_pts": radar,
            "valid_flag": lidar + radar > 0,
            "gt_agent_fut_trajs": np.reshape([item[0] for item in futures], (-1, 12)).astype(np.float32),
            "gt_agent_fut_masks": np.reshape([item[1] for item in futures], (-1, 6)).astype(np.float32),
            "gt_agent_fut_yaw": np.reshape([item[2] for item in futures], (-1, 6)).astype(np.float32),
            "gt_agent_fut_goal": np.array([_goal(item[0]) for item in futures], np.float32),
            "gt_agent_lcf_feat": feature.astype(np.float32),
        }

    def name(self, category: str) -> str:
        return category if self.raw_names else category_to_detection_name(category) or category

    def future(self, row: dict[str, Any], box: Box, mounted: dict[str, Any], driven: dict[str, Any]) -> tuple[Any, ...]:
        steps, mask, turns = np.zeros((6, 2)), np.zeros(6), np.zeros(6)
        for step in range(6):
            if not row["next"]:
                break
            row = self.nusc.get("sample_annotation", row["next"])
            later = Box(row["translation"], row["size"], Quaternion(row["rotation"]))
            for pose in (driven, mounted):
                later.translate(-np.array(pose["translation"]))
                later.rotate(Quaternion(pose["rotation"]).inverse)
            steps[step], mask[step] = (later.center - box.center)[:2], 1
            turns[step] = _yaw(later) - _yaw(box)
            box = later
        return steps, mask, turns


def _matrix(row: dict[str, Any], inverse: bool = False) -> np.ndarray:
    return transform_matrix(row["translation"], Quaternion(row["rotation"]), inverse=inverse)


def _yaw(box: Box) -> float:
    forward = box.orientation.rotation_matrix[:, 0]
    return float(np.arctan2(forward[1], forward[0]))


def _goal(steps: np.ndarray) -> float:
    motion = steps.cumsum(axis=0)[-1] - steps[0]
    return 9.0 if motion.max() < 1 else float((np.arctan2(motion[1], motion[0]) + np.pi) // (np.pi / 4))
