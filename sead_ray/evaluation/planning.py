"""The planning metric as VAD publishes it (ST-P3's), and UniAD's at-the-horizon convention beside it, named apart.

Agents are drawn into a grid of 200 x 200 cells of 0.5 m with upstream's precision, so that every rounding agrees.
Nothing is written into the inputs (upstream changes the yaw of the boxes it gets).

Shape legend: T = 6 steps of 0.5 s, n agents; all coordinates in the lidar frame of the current key frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sead_ray.targets import FrameTargets

CELLS = 200
CELL_M = 0.5
EXTENT_M = 50.0
EGO_LENGTH_M, EGO_WIDTH_M = 4.084, 1.85
EGO_FORWARD_M = 0.5  # the box lies this far ahead of the lidar; it never turns with the heading
STEPS_PER_S = 2
HORIZONS_S = (1, 2, 3)
HUMAN_CATEGORIES = range(2, 9)  # rows of nuScenes' lidarseg-expanded category table
VEHICLE_CATEGORIES = range(14, 24)
_MASK, _CATEGORY, _TURNS = slice(12, 18), 27, slice(28, 34)  # columns of an attribute row


@dataclass(frozen=True)
class FramePlanning:
    """How one frame's plan did. Not valid (fewer than six later key frames): all zero, and not counted.

    Attributes:
        step_l2_m: distance to the driven path at each step.
        step_collision: the ego box meets an agent at that step, and would not have on the driven path.
        command: the frame's command, by which the plan was chosen.
    """

    clip_token: str
    frame_token: str
    command: int
    valid: bool
    step_l2_m: tuple[float, ...]
    step_collision: tuple[bool, ...]

    @property
    def l2_m(self) -> tuple[float, ...]:
        """At 1, 2, 3 s: the mean over the steps up to then (VAD)."""
        return tuple(float(np.mean(self.step_l2_m[: STEPS_PER_S * second])) for second in HORIZONS_S)

    @property
    def obj_box_col(self) -> tuple[float, ...]:
        """At 1, 2, 3 s: the share of colliding steps up to then, 0..1 (VAD: plan_obj_box_col)."""
        return tuple(float(np.mean(self.step_collision[: STEPS_PER_S * second])) for second in HORIZONS_S)

    @property
    def uniad_l2_m(self) -> tuple[float, ...]:
        """At exactly 1, 2, 3 s (UniAD)."""
        return tuple(float(self.step_l2_m[STEPS_PER_S * second - 1]) for second in HORIZONS_S)

    @property
    def uniad_obj_box_col(self) -> tuple[float, ...]:
        """Whether the step at exactly 1, 2, 3 s collides (UniAD)."""
        return tuple(float(self.step_collision[STEPS_PER_S * second - 1]) for second in HORIZONS_S)

    def to_row(self) -> dict[str, Any]:
        """Plain lists and numbers, for Parquet or JSON; `FramePlanning.from_row` reads them."""
        row = asdict(self)
        return {**row, "step_l2_m": list(self.step_l2_m), "step_collision": list(self.step_collision)}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> FramePlanning:
        steps = {"step_l2_m": tuple(row["step_l2_m"]), "step_collision": tuple(row["step_collision"])}
        values: dict[str, Any] = {**row, **steps}
        return cls(**values)


def frame_planning(
    plan_offsets_m: ArrayLike, target: FrameTargets, clip_token: str = "", frame_token: str = ""
) -> FramePlanning:
    """The metric of one frame.

    Args:
        plan_offsets_m: (T, 2) per-step offsets of the plan for the frame's command.
        target: its agents (already cut to VAD's range), and the driven path.
    """
    command = int(target.command)
    if not target.future_valid:
        steps = np.asarray(plan_offsets_m).shape[0]
        return FramePlanning(clip_token, frame_token, command, False, (0.0,) * steps, (False,) * steps)
    plan, driven = path_from_offsets(plan_offsets_m), path_from_offsets(target.ego_future)
    occupancy = agent_occupancy(target.boxes, target.attributes)
    distance = np.sqrt(((plan - driven) ** 2).sum(-1))
    # a step at which the driven path itself touches an agent says nothing of the plan
    collides = box_collisions(plan, occupancy) & ~box_collisions(driven, occupancy)
    return FramePlanning(
        clip_token, frame_token, command, True, tuple(map(float, distance)), tuple(map(bool, collides))
    )


def batch_planning(
    plans_m: ArrayLike, targets: Sequence[FrameTargets], clip_tokens: Sequence[str], frame_tokens: Sequence[str]
) -> list[FramePlanning]:
    """`frame_planning` of B frames; plans_m: (B, 3, T, 2), of which each frame's command selects one."""
    plans = np.asarray(plans_m)
    return [
        frame_planning(plan[int(target.command)], target, clip, frame)
        for plan, target, clip, frame in zip(plans, targets, clip_tokens, frame_tokens)
    ]


def path_from_offsets(offsets_m: ArrayLike) -> NDArray[np.float32]:
    """(T, 2) positions of (T, 2) per-step offsets; summed in float64 and rounded, as torch does."""
    return np.cumsum(np.asarray(offsets_m, np.float32), axis=0, dtype=np.float64).astype(np.float32)


def agent_occupancy(boxes: NDArray[np.float32], attributes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(T, 200, 200) cells covered by vehicles or people at each future step; rows run from +y to -y.

    Args:
        boxes: (n, 9); attributes: (n, 34), see `FrameTargets`. Steps whose mask is not 1 are not drawn.
    """
    boxes, attributes = np.asarray(boxes, np.float32), np.asarray(attributes, np.float32)
    mask = attributes[:, _MASK] == 1
    grid = np.zeros((mask.shape[1], CELLS, CELLS), np.uint8)
    if not len(boxes):
        return grid
    corners = _corner_cells(boxes, attributes)
    category = attributes[:, _CATEGORY].astype(int)
    for agent in np.flatnonzero(np.isin(category, [*HUMAN_CATEGORIES, *VEHICLE_CATEGORIES])):
        for step in np.flatnonzero(mask[agent]):
            cv2.fillPoly(grid[step], [corners[agent, step]], [1.0])
    return grid


def _corner_cells(boxes: NDArray[np.float32], attributes: NDArray[np.float32]) -> NDArray[np.int32]:
    """(n, T, 4, 2) column and row of the corners of every agent's box at every step."""
    offsets = attributes[:, :12].reshape(len(boxes), -1, 2)
    center = np.cumsum(offsets, axis=1, dtype=np.float32) + boxes[:, None, :2]
    heading = -(boxes[:, 6] + np.float32(np.pi / 2))  # from VAD's yaw
    heading = np.cumsum(attributes[:, _TURNS], axis=1, dtype=np.float32) + heading[:, None]
    cos, sin = np.cos(heading)[..., None], np.sin(heading)[..., None]
    # positions and angles are float32, the corners float64: so the published metric rounds
    along = boxes[:, 4, None, None].astype(np.float64) / 2 * np.array([1, -1, -1, 1])
    across = boxes[:, 3, None, None].astype(np.float64) / 2 * np.array([1, 1, -1, -1])
    x = cos * along - sin * across + center[..., :1]
    y = sin * along + cos * across + center[..., 1:]
    # half a cell is subtracted and added again, as upstream; np.round takes halves to even
    start = -EXTENT_M + CELL_M / 2
    cells = (np.stack([x, -y], axis=-1) - start + CELL_M / 2) / CELL_M
    return np.round(cells).astype(np.int32)


def box_collisions(path_m: NDArray[np.float32], occupancy: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(T,) whether the ego box at each position covers an occupied cell.

    Cells outside the grid are tested at its border, as upstream.
    """
    row, column = _EGO_CELLS
    position = (np.asarray(path_m, np.float32) / np.float32(CELL_M)).astype(np.float64)
    rows = np.clip((CELLS - (position[:, 1:] + row)).astype(np.int32), 0, CELLS - 1)
    columns = np.clip((position[:, :1] + column).astype(np.int32), 0, CELLS - 1)
    return occupancy[np.arange(len(occupancy))[:, None], rows, columns].any(axis=1)


def point_collisions(path_m: NDArray[np.float32], occupancy: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(T,) upstream's obj_col: whether one cell for each position is occupied; False outside the grid.

    Upstream halves the grid's start and so looks 25 m beside the ego in both axes. It is here to be compared with
    published tables only, and is no part of `FramePlanning`.
    """
    half_start = np.float32(-(-EXTENT_M + CELL_M / 2) / 2)
    path = np.asarray(path_m, np.float32)
    rows = ((half_start - path[:, 1]) / np.float32(CELL_M)).astype(np.int64)
    columns = ((half_start + path[:, 0]) / np.float32(CELL_M)).astype(np.int64)
    inside = (rows >= 0) & (rows < CELLS) & (columns >= 0) & (columns < CELLS)
    steps = np.arange(len(path))
    return inside & (occupancy[steps, rows.clip(0, CELLS - 1), columns.clip(0, CELLS - 1)] > 0)


def _ego_cells() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column (counted from the rear right) of the cells whose index lies inside the ego box at the origin."""
    start = -EXTENT_M + CELL_M / 2
    rear, front = ((sign * EGO_LENGTH_M / 2 + EGO_FORWARD_M - start) / CELL_M for sign in (-1, 1))
    right, left = ((sign * EGO_WIDTH_M / 2 - start) / CELL_M for sign in (-1, 1))
    rows, columns = np.meshgrid(
        np.arange(np.ceil(rear), np.floor(front) + 1), np.arange(np.ceil(right), np.floor(left) + 1), indexing="ij"
    )
    return rows.ravel().astype(np.int64), columns.ravel().astype(np.int64)


_EGO_CELLS = _ego_cells()


def summarise(records: Sequence[FramePlanning]) -> dict[str, Any]:
    """Means over the valid frames, each of equal weight, as VAD's evaluation; None where there is no valid frame.

    Returns:
        {"l2_m": {"1s", "2s", "3s", "avg"}, "collision_percent": {...}, "n_frames": int,
        "uniad_l2_m": {...}, "uniad_collision_percent": {...}}
    """
    valid = [record for record in records if record.valid]
    return {
        "l2_m": _horizons([record.l2_m for record in valid]),
        "collision_percent": _horizons([record.obj_box_col for record in valid], 100.0),
        "n_frames": len(valid),
        "uniad_l2_m": _horizons([record.uniad_l2_m for record in valid]),
        "uniad_collision_percent": _horizons([record.uniad_obj_box_col for record in valid], 100.0),
    }


def _horizons(values: list[tuple[float, ...]], scale: float = 1.0) -> dict[str, float | None]:
    names = [f"{second}s" for second in HORIZONS_S]
    if not values:
        return {**dict.fromkeys(names), "avg": None}
    means = scale * np.mean(np.asarray(values, np.float64), axis=0)
    return {**{name: float(mean) for name, mean in zip(names, means)}, "avg": float(means.mean())}
