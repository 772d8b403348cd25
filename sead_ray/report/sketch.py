"""Drawings of one clip as small hand-made SVG: the shift trace, and a bird's-eye view of a bought frame."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from sead_ray.geometry import box_corners_bev, invert, rotation_matrix, transform_points
from sead_ray.records import FUTURE_STEPS, Annotation, Clip, FrameLabels

BEV_X_M, BEV_Y_M = 20.0, 32.0  # half of the drawn patch; VAD's range is 15 by 30 m
MAP_STYLES = ("divider", "crossing", "boundary")  # CSS classes in the order of MAP_CLASSES
TRACE_WIDTH, TRACE_HEIGHT, TRACE_LEFT, TRACE_BOTTOM = 320.0, 120.0, 34.0, 20.0


def bev_sketch(clip: Clip, index: int, labels: FrameLabels | None, near_m: float) -> Markup:
    """Boxes, map vectors, ego and recorded path around key frame `index`, in its lidar frame (forward is up).

    `near_m`: radius of the circle inside which a road participant makes a key frame (Eq. 4).
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
    parts.append('<path class="ego" d="M0 -2.2L1.3 1.8L0 1L-1.3 1.8Z"/>')
    parts.append(f'<path class="scale" d="M{-BEV_X_M + 1:g} {BEV_Y_M - 1.5:g}h10"/>')
    parts.append(f'<text x="{-BEV_X_M + 1:g}" y="{BEV_Y_M - 2.4:g}" font-size="2.2">10 m</text>')
    label = f"Bird's-eye view of {clip.name}, frame {index}: " + _content(labels)
    view = f"{-BEV_X_M:g} {-BEV_Y_M:g} {2 * BEV_X_M:g} {2 * BEV_Y_M:g}"
    return _svg("bev", view, label, parts)


def shift_trace(agents: list[float], maps: list[float], is_key: list[bool], name: str) -> Markup:
    """Feature shift (Eq. 2) of agents and map over the clip; key frames as hatched bands where times are aligned.

    Shifts have one value a transition; transition i ends at frame i + 1 unless the clip has a gap, and then
    no band is drawn.
    """
    n_steps = max(len(agents), len(maps), 1)
    aligned = len(is_key) == n_steps + 1
    top = max([value for value in (*agents, *maps) if np.isfinite(value)], default=0.0) or 1.0
    right, bottom = TRACE_WIDTH - 6, TRACE_HEIGHT - TRACE_BOTTOM

    def x_at(frame: float) -> float:
        return TRACE_LEFT + (right - TRACE_LEFT) * frame / n_steps

    parts = []
    for frame in [frame for frame, key in enumerate(is_key) if key and aligned]:
        low, high = max(x_at(frame - 0.5), TRACE_LEFT), min(x_at(frame + 0.5), right)
        parts.append(f'<rect class="key-band" x="{low:.1f}" y="6" width="{high - low:.1f}" height="{bottom - 6:.1f}"/>')
        parts.append(f'<path class="key-tick" d="M{low:.1f} {bottom + 2.5:.1f}H{high:.1f}"/>')
    parts.append(f'<path class="axis" d="M{TRACE_LEFT} 6V{bottom}H{right}"/>')
    for value in (0.0, top):
        y = bottom - (bottom - 10) * value / top
        parts.append(f'<text x="{TRACE_LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{value:.2g}</text>')
    for frame in sorted({0, n_steps}):
        anchor = "start" if frame == 0 else "end"
        parts.append(f'<text x="{x_at(frame):.1f}" y="{TRACE_HEIGHT - 5}" text-anchor="{anchor}">{frame}</text>')
    parts.append(
        f'<text x="10" y="{bottom / 2 + 18:.0f}" transform="rotate(-90 10 {bottom / 2 + 18:.0f})">shift</text>'
    )
    middle = (TRACE_LEFT + right) / 2
    axis_name = "frame" if aligned else "transition"
    parts.append(f'<text x="{middle:.1f}" y="{TRACE_HEIGHT - 5}" text-anchor="middle">{axis_name}</text>')
    for style, values in (("agents", agents), ("map", maps)):
        points = [
            f"{x_at(step + 1):.1f},{bottom - (bottom - 10) * value / top:.1f}"
            for step, value in enumerate(values)
            if np.isfinite(value)
        ]
        parts.append(f'<polyline class="{style}" points="{" ".join(points)}"/>')
    label = f"Feature shift of {name} over the clip; the largest value is {top:.3g}"
    return _svg("trace", f"0 0 {TRACE_WIDTH:g} {TRACE_HEIGHT:g}", label, parts)


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


def _content(labels: FrameLabels | None) -> str:
    if labels is None:
        return "no labels delivered, ego and recorded path only"
    return f"{len(labels.annotations)} boxes, {len(labels.map_vectors)} map elements, ego and recorded path"
