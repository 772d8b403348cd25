"""A key frame in the layout of VAD's info files (`vad_nuscenes_infos_temporal_*.pkl`), to be compared with them.

Same names, frames and units as upstream's converter. Two fields differ on purpose: `can_bus` holds the ego pose and yaw
that VAD's data set writes into it when it is read, and column 8 of `gt_agent_lcf_feat` counts by the lidarseg-expanded
category table, which the planning metric expects, whatever table the folder has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sead_ray.geometry import Pose, invert
from sead_ray.nuscenes.agents import agent_attributes, agent_box, box_velocity, class_index
from sead_ray.nuscenes.commands import ego_future, ego_history
from sead_ray.nuscenes.targets import frame_tracks
from sead_ray.records import AGENT_CLASSES, FUTURE_STEPS, Camera, Clip, Command, FrameLabels


def drive_info(clip: Clip, index: int) -> dict[str, Any]:
    """What needs no annotation: tokens, poses, cameras, CAN vector, ego history, future, command and state."""
    frame, poses = clip.frames[index], clip.global_from_lidar
    tokens = ["", *(item.token for item in clip.frames), ""]
    history, history_mask = ego_history(poses, index)
    future, future_mask = ego_future(poses, index)
    return {
        "token": frame.token,
        "prev": tokens[index],
        "next": tokens[index + 2],
        "scene_token": clip.clip_token,
        "frame_idx": index,
        "timestamp": frame.timestamp_us,
        "map_location": clip.location,
        **_pose_info("lidar2ego", frame.ego_from_lidar),
        **_pose_info("ego2global", frame.global_from_ego),
        "can_bus": np.asarray(frame.can_bus),
        "cams": {camera.name: _camera_info(camera, poses[index]) for camera in frame.cameras},
        "fut_valid_flag": index + FUTURE_STEPS < len(clip.frames),
        "gt_ego_his_trajs": history,
        "gt_ego_his_masks": history_mask,  # VAD's files have no such field
        "gt_ego_fut_trajs": future,
        "gt_ego_fut_masks": future_mask,
        "gt_ego_fut_cmd": np.eye(len(Command))[frame.command],
        "gt_ego_lcf_feat": np.asarray(frame.ego_state),
    }


def label_info(clip: Clip, index: int, labels: Mapping[str, FrameLabels]) -> dict[str, Any]:
    """What annotators deliver: every annotated box in the order of the tables, whatever its class, range or points.

    Velocities are NaN where the devkit's are. Headings along a future are folded into [-pi, pi), see `agents`.
    """
    lidar_from_global = invert(clip.frames[index].global_from_lidar)
    timestamp_us = [frame.timestamp_us for frame in clip.frames]
    boxes, velocities, rows = [], [], []
    tracks = frame_tracks(clip, index, labels, labels)
    for annotation, track in tracks:
        velocity = box_velocity(track, index, timestamp_us)
        box = agent_box(annotation, velocity, lidar_from_global)
        boxes.append(box[:7])
        velocities.append(np.where(np.isnan(velocity), np.nan, box[7:]))
        rows.append(agent_attributes(box, track, index, lidar_from_global))
    attributes = np.array(rows).reshape(-1, 34)
    attributes[:, 22:24] = np.reshape(velocities, (-1, 2))
    lidar = np.array([item.n_lidar_points for item, _ in tracks], np.int64)
    radar = np.array([item.n_radar_points for item, _ in tracks], np.int64)
    return {
        "gt_boxes": np.reshape(boxes, (-1, 7)),
        "gt_names": np.array([_detection_name(item.category) for item, _ in tracks], np.str_),
        "gt_velocity": np.reshape(velocities, (-1, 2)),
        "num_lidar_pts": lidar,
        "num_radar_pts": radar,
        "valid_flag": lidar + radar > 0,
        "gt_agent_fut_trajs": attributes[:, :12],
        "gt_agent_fut_masks": attributes[:, 12:18],
        "gt_agent_fut_goal": attributes[:, 18],
        "gt_agent_lcf_feat": attributes[:, 19:28],
        "gt_agent_fut_yaw": attributes[:, 28:],
    }


def _camera_info(camera: Camera, global_from_lidar: np.ndarray) -> dict[str, Any]:
    lidar_from_camera = invert(global_from_lidar) @ camera.global_from_ego.matrix @ camera.ego_from_camera.matrix
    return {
        "data_path": camera.key,
        "type": camera.name,
        "timestamp": camera.timestamp_us,
        **_pose_info("sensor2ego", camera.ego_from_camera),
        **_pose_info("ego2global", camera.global_from_ego),
        "sensor2lidar_rotation": lidar_from_camera[:3, :3],
        "sensor2lidar_translation": lidar_from_camera[:3, 3],
        "cam_intrinsic": np.asarray(camera.intrinsics),
    }


def _pose_info(name: str, pose: Pose) -> dict[str, list[float]]:
    return {f"{name}_translation": list(pose.translation_m), f"{name}_rotation": list(pose.rotation_wxyz)}


def _detection_name(category: str) -> str:
    """The detection class where the category has one, else nuScenes' own name."""
    index = class_index(category)
    return AGENT_CLASSES[index] if index >= 0 else category
