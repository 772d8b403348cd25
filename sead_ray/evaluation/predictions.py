"""What a model says of one frame besides its plan, decoded and off its device: boxes, futures, map lines."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sead_ray.errors import InputError
from sead_ray.model.contract import VADOutput
from sead_ray.model.decode import decode_boxes, decode_lines


@dataclass(frozen=True)
class FramePrediction:
    """Of one frame, in its lidar frame; boxes and lines each by falling score. n boxes, m lines.

    Attributes:
        boxes: (n, 9) x, y, z of the gravity centre, w, l, h, VAD's yaw, vx, vy.
        scores, labels: (n,); labels index `records.AGENT_CLASSES`.
        offsets_m: (n, R, T, 2) per-step offsets of each mode.
        lines_m: (m, P, 2); line_scores, line_labels: (m,); labels index `records.MAP_CLASSES`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    offsets_m: NDArray[np.float32]
    lines_m: NDArray[np.float32]
    line_scores: NDArray[np.float32]
    line_labels: NDArray[np.int64]

    def require_sound(self, frame_token: str) -> None:
        """Raises `InputError` where a number is NaN or infinite, or a box has no extent: no metric of such means
        anything."""
        for field in fields(self):
            if not np.isfinite(getattr(self, field.name)).all():
                raise InputError(f"The model's {field.name} of frame {frame_token} are not finite: it has diverged.")
        if (self.boxes[:, 3:6] <= 0).any():
            raise InputError(f"The model's boxes of frame {frame_token} have no extent: it has diverged.")


def decode_predictions(output: VADOutput, pc_range: tuple[float, ...]) -> list[FramePrediction]:
    """One entry for each of the B clips of the output: VAD's 100 boxes and 50 lines (`model.decode`)."""
    return [
        FramePrediction(
            boxes=_numpy(boxes.boxes),
            scores=_numpy(boxes.scores),
            labels=_numpy(boxes.labels),
            offsets_m=_numpy(boxes.offsets_m.unflatten(-1, (-1, 2))),
            lines_m=_numpy(lines.points_m),
            line_scores=_numpy(lines.scores),
            line_labels=_numpy(lines.labels),
        )
        for boxes, lines in zip(decode_boxes(output), decode_lines(output, pc_range), strict=True)
    ]


def _numpy(tensor: Tensor) -> NDArray:
    return tensor.detach().cpu().numpy()
