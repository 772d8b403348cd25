"""Training and evaluation targets of one frame: what label building hands to the losses and to the metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAP_ORDERS = 19  # equivalent point orders kept for a closed line (VAD's v2 pattern)
MAP_ORDER_FILL = -10000.0  # in unused orders, as upstream


@dataclass
class FrameTargets:
    """Targets of one key frame, all in its lidar frame. n agents and m map elements inside VAD's range.

    Attributes:
        boxes: (n, 9) x, y, z (gravity centre), w, l, h, yaw (VAD: -heading - pi/2), vx, vy; NaN velocities are 0.
        labels: (n,) index into `records.AGENT_CLASSES`.
        attributes: (n, 34) VAD's row: per-step offsets 6x2, mask 6, goal 1, x, y, heading, vx, vy, w, l, h,
            category index, per-step heading change 6.
        map_points: (m, MAP_ORDERS, 20, 2) metres; unused orders hold MAP_ORDER_FILL.
        map_labels: (m,) index into `records.MAP_CLASSES`.
        ego_future: (6, 2) per-step offsets of the lidar origin; ego_future_mask: (6,).
        command: index of `records.Command`.
        future_valid: six later key frames exist (VAD's fut_valid_flag).
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    attributes: NDArray[np.float32]
    map_points: NDArray[np.float32]
    map_labels: NDArray[np.int64]
    ego_future: NDArray[np.float32]
    ego_future_mask: NDArray[np.float32]
    command: int
    future_valid: bool

    @property
    def agent_futures(self) -> NDArray[np.float32]:
        """(n, 6, 2) per-step offsets."""
        return self.attributes[:, :12].reshape(-1, 6, 2)

    @property
    def agent_future_masks(self) -> NDArray[np.float32]:
        """(n, 6)"""
        return self.attributes[:, 12:18]
