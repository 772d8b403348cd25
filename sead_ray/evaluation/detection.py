"""Detection mAP and NDS by nuScenes' own evaluator, fed from our records instead of a folder and a submission.

Boxes, filters, matching, AP and true-positive errors are the devkit's (`detection_cvpr_2019`); here is only what a
frame hands to it, and three named choices of what counts:

    nuscenes       the benchmark: each class within its range around the ego. VAD looks no farther than its patch, so
                   what lies outside it counts as missed.
    vad_range      annotations and boxes whose centre lies in VAD's patch, x +-15 m and y +-30 m of the lidar frame.
    vad_published  as hustvl/VAD evaluates: boxes with a score of 0.2 or more and 30 x 15 m around the ego, but along
                   the GLOBAL axes, whatever way the ego drives. For comparison with its logs only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sead_ray.evaluation.detection_frames import BoxSet, FrameDetections
from sead_ray.geometry import invert, transform_points
from sead_ray.nuscenes.map_vectors import HALF_X_M, HALF_Y_M
from sead_ray.records import AGENT_CLASSES

PROTOCOLS = ("nuscenes", "vad_range", "vad_published")
PUBLISHED_MIN_SCORE = 0.2  # VAD: _format_bbox
PUBLISHED_X_M, PUBLISHED_Y_M = 30.0, 15.0  # VAD: class_range_x, class_range_y
_NO_RANGE = dict.fromkeys(AGENT_CLASSES, float("inf"))
# The devkit's names of the true-positive errors, and the published ones.
_ERRORS = {"trans_err": "ATE", "scale_err": "ASE", "orient_err": "AOE", "vel_err": "AVE", "attr_err": "AAE"}
# Errors that mean nothing for a class: the devkit leaves them out of the means.
_MEANINGLESS = {"traffic_cone": ("attr_err", "vel_err", "orient_err"), "barrier": ("attr_err", "vel_err")}


def detection_metrics(frames: Sequence[FrameDetections], protocol: str = "nuscenes") -> dict[str, Any]:
    """The ten classes one after the other; `class_curves` and `summarise_detection` are its halves."""
    return summarise_detection({name: class_curves(frames, name, protocol) for name in AGENT_CLASSES})


def class_curves(frames: Sequence[FrameDetections], class_name: str, protocol: str = "nuscenes") -> list[Any]:
    """One class's `DetectionMetricData` at each of the devkit's match distances.

    A class at a time, since the devkit's box objects of a whole split take gigabytes.

    Args:
        frames: every frame of the split once, also those without a box.
        protocol: one of `PROTOCOLS`.
    """
    from nuscenes.eval.common.data_classes import EvalBoxes  # late: pulls in matplotlib
    from nuscenes.eval.detection.algo import accumulate

    config = _config()
    tables = _Tables(frames)
    predicted, annotated = EvalBoxes(), EvalBoxes()
    for frame in frames:
        for boxes, own in ((predicted, frame.predicted), (annotated, frame.annotated)):
            chosen = (own.labels == AGENT_CLASSES.index(class_name)) & _in_range(frame, own, protocol)
            boxes.add_boxes(frame.frame_token, _devkit_boxes(frame.frame_token, own, np.flatnonzero(chosen)))
    ranges = config.class_range if protocol == "nuscenes" else _NO_RANGE
    for boxes in (predicted, annotated):
        _filter(tables, boxes, ranges)
    return [
        accumulate(annotated, predicted, class_name, config.dist_fcn_callable, distance) for distance in config.dist_ths
    ]


def summarise_detection(curves: dict[str, list[Any]]) -> dict[str, Any]:
    """{"mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE", "classes": {name: {"AP", "AP_by_distance_m", "ATE", "ASE",
    "AOE", "AVE", "AAE"}}}. Means follow the devkit: a class without annotations has AP 0 and errors of 1; an error
    that means nothing for a class is None."""
    from nuscenes.eval.detection.algo import calc_ap, calc_tp
    from nuscenes.eval.detection.data_classes import DetectionMetrics

    config = _config()
    metrics = DetectionMetrics(config)
    for name in config.class_names:
        by_distance = dict(zip(config.dist_ths, curves[name], strict=True))
        for distance, data in by_distance.items():
            metrics.add_label_ap(name, distance, calc_ap(data, config.min_recall, config.min_precision))
        for error in _ERRORS:
            data = by_distance[config.dist_th_tp]
            value = np.nan if error in _MEANINGLESS.get(name, ()) else calc_tp(data, config.min_recall, error)
            metrics.add_label_tp(name, error, value)
    means = {f"m{short}": metrics.tp_errors[error] for error, short in _ERRORS.items()}
    classes = {name: _class_summary(metrics, name) for name in AGENT_CLASSES}
    return {"mAP": metrics.mean_ap, "NDS": metrics.nd_score, **means, "classes": classes}


def _class_summary(metrics: Any, name: str) -> dict[str, Any]:
    by_distance = {str(distance): metrics.get_label_ap(name, distance) for distance in metrics.cfg.dist_ths}
    errors = {short: metrics.get_label_tp(name, error) for error, short in _ERRORS.items()}
    return {
        "AP": float(metrics.mean_dist_aps[name]),
        "AP_by_distance_m": by_distance,
        **{short: None if np.isnan(value) else value for short, value in errors.items()},
    }


def _config() -> Any:
    from nuscenes.eval.common.config import config_factory

    return config_factory("detection_cvpr_2019")


def _in_range(frame: FrameDetections, boxes: BoxSet, protocol: str) -> NDArray[np.bool_]:
    """(n,) what the protocol admits before the devkit's own filters."""
    if protocol == "nuscenes":
        return np.ones(len(boxes.labels), bool)
    if protocol == "vad_range":
        lidar_from_global = invert(frame.global_from_ego.matrix @ frame.ego_from_lidar.matrix)
        x, y = transform_points(lidar_from_global, boxes.centers_m)[:, :2].T
        return (np.abs(x) < HALF_X_M) & (np.abs(y) < HALF_Y_M)
    if protocol != "vad_published":
        raise ValueError(f"{protocol!r} is none of {PROTOCOLS}")
    x, y = (boxes.centers_m - frame.global_from_ego.translation_m)[:, :2].T
    admitted = (np.abs(x) < PUBLISHED_X_M) & (np.abs(y) < PUBLISHED_Y_M)
    if boxes is frame.predicted:
        x, y = transform_points(invert(frame.global_from_ego.matrix), boxes.centers_m)[:, :2].T
        admitted &= (np.abs(x) <= PUBLISHED_X_M) & (np.abs(y) <= PUBLISHED_Y_M)
        admitted &= boxes.scores >= PUBLISHED_MIN_SCORE
    return admitted


def _devkit_boxes(frame_token: str, boxes: BoxSet, chosen: NDArray[np.int64]) -> list[Any]:
    from nuscenes.eval.detection.data_classes import DetectionBox

    return [
        DetectionBox(
            sample_token=frame_token,
            translation=tuple(boxes.centers_m[index].tolist()),
            size=tuple(boxes.sizes_wlh_m[index].tolist()),
            rotation=tuple(boxes.rotations_wxyz[index].tolist()),
            velocity=tuple(boxes.velocities_mps[index].tolist()),
            num_pts=int(boxes.n_points[index]),
            detection_name=AGENT_CLASSES[boxes.labels[index]],
            detection_score=float(boxes.scores[index]),
            attribute_name=boxes.attributes[index],
        )
        for index in chosen
    ]


def _filter(tables: Any, boxes: Any, ranges: dict[str, float]) -> None:
    """The devkit's filters: range around the ego, boxes without a lidar or radar point, cycles in a bicycle rack."""
    from nuscenes.eval.common.loaders import add_center_dist, filter_eval_boxes

    if boxes.all:  # of no box at all the devkit's filter cannot tell the kind
        filter_eval_boxes(tables, add_center_dist(tables, boxes), ranges)


class _Tables:
    """Answers what the devkit's filters ask of a `NuScenes` object: the ego's place and the bicycle racks."""

    def __init__(self, frames: Sequence[FrameDetections]) -> None:
        self._frames = {frame.frame_token: frame for frame in frames}

    def get(self, table: str, token: Any) -> dict[str, Any]:
        if table == "sample":
            racks = range(len(self._frames[token].bicycle_racks))
            return {"data": {"LIDAR_TOP": token}, "anns": [(token, number) for number in racks]}
        if table == "sample_data":
            return {"ego_pose_token": token}
        if table == "ego_pose":
            return {"translation": self._frames[token].global_from_ego.translation_m}
        if table != "sample_annotation":
            raise KeyError(table)
        frame_token, number = token
        rack = self._frames[frame_token].bicycle_racks[number]
        return {
            "category_name": rack.category,
            "translation": rack.translation_m,
            "size": rack.size_wlh_m,
            "rotation": rack.rotation_wxyz,
        }
