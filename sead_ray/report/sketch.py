"""A bird's-eye view of one frame as small SVG: boxes, map, planned and driven path."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from sead_ray.geometry import box_corners_bev, invert, rotation_matrix, transform_points
from sead_ray.records import FUTURE_STEPS, Annotation, Clip, FrameLabels

BEV_X_M, BEV_Y_M = 20.0, 32.0  # half of the drawn patch; VAD's range is 15 by 30 m
MAP_STYLES = ("divider", "crossing", "boundary")  # CSS classes in the order of MAP_CLASSES


def bev_sketch(
    clip: Clip, index: int, labels: FrameLabels | None, near_m: float, plan_m: NDArray[np.float64] | None = None
) -> Markup:
    """Boxes, map vectors, ego, planned and driven path around key frame `index`, in its lidar frame (forward is up).

    `near_m`: radius of the circle inside which a road participant makes a key frame (Eq. 4).
    `plan_m`: (6, 2) positions that the model planned; None: unknown.
    """
    lidar_from_global = invert(clip.frames[index].global_from_lidar)
    parts = [f'<circle class="near" r="{near_m:.2f}"/>']
    if labels is not None:
        parts += [_polyline(MAP_STYLES[vector.map_class], vector.points_m) for vector in labels.map_vectors]
        parts += [_box(annotation, lidar_from_global) for annotation in labels.annotations]
    path = np.array([transform_points(lidar_from_global, f.global_from_lidar[:3, 3])[:2] for f in clip.frames[index:]])
    if len(path) > 1:
        parts += [_polyline("path-later", path), _polyline("path", path[: FUTURE_STEPS + 1])]
        parts += [f'<circle class="step" cx="{x:.2f}" cy="{-y:.2f}" r="0.45"/>' for x, y in path[1 : FUTURE_STEPS + 1]]
    if plan_m is not None:
        parts.append(_polyline("plan", np.vstack([np.zeros(2), plan_m])))
        parts += [f'<circle class="plan-step" cx="{x:.2f}" cy="{-y:.2f}" r="0.4"/>' for x, y in plan_m]
    parts.append('<path class="ego" d="M0 -2.2L1.3 1.8L0 1L-1.3 1.8Z"/>')
    parts.append(f'<path class="scale" d="M{-BEV_X_M + 1:g} {BEV_Y_M - 1.5:g}h10"/>')
    parts.append(f'<text x="{-BEV_X_M + 1:g}" y="{BEV_Y_M - 2.4:g}" font-size="2.2">10 m</text>')
    label = f"Bird's-eye view of {clip.name}, frame {index}: " + _content(labels, plan_m is not None)
    view = f"{-BEV_X_M:g} {-BEV_Y_M:g} {2 * BEV_X_M:g} {2 * BEV_Y_M:g}"
    return _svg("bev", view, label, parts)


def _svg(style: str, view: str, label: str, parts: list[str]) -> Markup:
    body = "".join(parts)  # numbers and constants only; what users wrote stands in the label
    return Markup(f'<svg class="{style}" viewBox="{view}" role="img" aria-label="{escape(label)}">{body}</svg>')


def _polyline(style: str, points_m: NDArray[np.float64]) -> str:
    points = " ".join(f"{x:.2f},{-y:.2f}" for x, y in points_m)
    return f'<polyline class="{style}" points="{points}"/>'


def _box(annotation: Annotation, lidar_from_global: NDArray[np.float64]) -> str:
    center = transform_points(lidar_from_global, annotation.translation_m)
    forward = lidar_from_global[:3, :3] @ rotation_matrix(annotation.rotation_wxyz)[:, 0]
    width_m, length_m, _ = annotation.size_wlh_m
    if abs(center[0]) > BEV_X_M + length_m or abs(center[1]) > BEV_Y_M + length_m:
        return ""
    heading_rad = float(np.arctan2(forward[1], forward[0]))
    corners = box_corners_bev(center[:2], length_m, width_m, heading_rad)
    nose = center[:2] + forward[:2] * length_m / 2
    shape = " ".join(f"{x:.2f},{-y:.2f}" for x, y in corners)
    line = f"M{center[0]:.2f} {-center[1]:.2f}L{nose[0]:.2f} {-nose[1]:.2f}"
    return f'<g class="{_box_style(annotation.category)}"><polygon points="{shape}"/><path d="{line}"/></g>'


def _box_style(category: str) -> str:
    if category.startswith(("human.", "pedestrian")):
        return "person"
    if category.startswith(("movable_object.", "static_object.")):
        return "object"
    return "vehicle"


def _content(labels: FrameLabels | None, is_planned: bool) -> str:
    paths = "planned and driven path" if is_planned else "driven path"
    if labels is None:
        return f"no labels delivered, ego and {paths} only"
    return f"{len(labels.annotations)} boxes, {len(labels.map_vectors)} map elements, ego and {paths}"
