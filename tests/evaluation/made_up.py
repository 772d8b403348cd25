"""Predictions made up from annotations, for metrics whose answer must not depend on a trained model."""

from __future__ import annotations

import numpy as np

from sead_ray.evaluation.predictions import FramePrediction
from sead_ray.targets import FrameTargets


def prediction(
    boxes: np.ndarray | None = None,
    scores: list[float] | np.ndarray = (),
    labels: list[int] | np.ndarray = (),
    offsets_m: np.ndarray | None = None,
    lines: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> FramePrediction:
    boxes = np.zeros((len(scores), 9)) if boxes is None else boxes
    offsets_m = np.zeros((len(boxes), 2, 6, 2)) if offsets_m is None else offsets_m
    points, line_scores, line_labels = lines or (np.zeros((0, 20, 2)), np.zeros(0), np.zeros(0))
    return FramePrediction(
        boxes=np.asarray(boxes, np.float32).reshape(-1, 9),
        scores=np.asarray(scores, np.float32),
        labels=np.asarray(labels, np.int64),
        offsets_m=np.asarray(offsets_m, np.float32),
        lines_m=np.asarray(points, np.float32),
        line_scores=np.asarray(line_scores, np.float32),
        line_labels=np.asarray(line_labels, np.int64),
    )


def noisy(target: FrameTargets, rng: np.random.Generator, n_boxes: int = 100) -> FramePrediction:
    """Boxes around the target's agents, some with another class, and clutter anywhere; scores above all for good ones,
    many of them equal."""
    around = target.boxes[rng.integers(0, len(target.boxes), n_boxes // 2)] if len(target.boxes) else np.zeros((0, 9))
    labels = target.labels[rng.integers(0, len(target.labels), len(around))] if len(around) else np.zeros(0, np.int64)
    boxes = np.concatenate([around, np.zeros((n_boxes - len(around), 9))])
    boxes[: len(around)] += rng.normal(0, 0.5, around.shape)
    clutter = boxes[len(around) :]
    clutter[:, :2] = rng.uniform((-19, -34), (19, 34), (len(clutter), 2))
    clutter[:, 6:] = rng.normal(0, 1, (len(clutter), 3))
    boxes[:, 3:6] = np.abs(boxes[:, 3:6]) + 0.3
    labels = np.concatenate([labels, rng.integers(0, 10, len(clutter))])
    scores = np.concatenate([rng.uniform(0.3, 1, len(around)), rng.uniform(0, 0.5, len(clutter))]).round(2)
    order = np.argsort(-scores, kind="stable")
    return prediction(boxes[order], scores[order], labels[order], rng.normal(0, 1, (n_boxes, 6, 6, 2)))
