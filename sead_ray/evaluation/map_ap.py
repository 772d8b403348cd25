"""Average precision of map lines by Chamfer distance at 0.5, 1.0 and 1.5 m, as MapTR and VAD define it.

A frame is reduced to one small record where its lines are (`match_lines`); precision and recall need only those.

Shape legend: m predicted lines, g annotated lines, P points of a line, D = 3 thresholds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from sead_ray.records import MAP_CLASSES, MapVector

THRESHOLDS_M = (0.5, 1.0, 1.5)
SAMPLES = 100  # points to which both sides' lines are resampled
# Upstream compares only pairs whose flat-ended strips, 2 m to either side, touch. Lines that lie within a threshold
# of each other do, but for short ones one behind the other.
STRIP_M = 2.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LineMatches:
    """One frame's predicted lines, whether each is right, and how many there were to find.

    Attributes:
        scores, labels: (m,), labels index `records.MAP_CLASSES`; correct: (m, D), by threshold.
        n_annotated: annotated lines by class.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    correct: NDArray[np.bool_]
    n_annotated: tuple[int, ...]


def match_lines(
    lines_m: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    annotated: Sequence[MapVector],
) -> LineMatches:
    """Compares a frame's predicted lines, (m, P, 2) in the lidar frame, with its annotated ones, class by class."""
    correct = np.zeros((len(lines_m), len(THRESHOLDS_M)), bool)
    counts = []
    for map_class in range(len(MAP_CLASSES)):
        wanted = [vector.points_m for vector in annotated if vector.map_class == map_class]
        own = np.flatnonzero(labels == map_class)
        counts.append(len(wanted))
        if len(wanted) and len(own):
            distance_m = line_distances(lines_m[own], wanted)
            for column, threshold_m in enumerate(THRESHOLDS_M):
                correct[own, column] = true_positives(distance_m, scores[own], threshold_m)
    return LineMatches(scores, labels, correct, tuple(counts))


def true_positives(distance_m: Array, scores: NDArray[np.float32], threshold_m: float) -> NDArray[np.bool_]:
    """(m,) by falling score each line takes its nearest annotated one, if that is near enough and still free; a line
    whose nearest is taken is wrong, even where another is near enough.

    Args:
        distance_m: (m, g), g >= 1.
    """
    nearest = distance_m.argmin(axis=1)
    taken = np.zeros(distance_m.shape[1], bool)
    correct = np.zeros(len(scores), bool)
    for line in np.argsort(-scores, kind="stable"):
        if distance_m[line, nearest[line]] <= threshold_m and not taken[nearest[line]]:
            taken[nearest[line]] = correct[line] = True
    return correct


def line_distances(lines_m: Iterable[ArrayLike], others_m: Iterable[ArrayLike]) -> Array:
    """(m, g) Chamfer distances of polylines, each (P, 2), any P >= 2, resampled to 100 points; infinite where two
    lines' strips (`STRIP_M`) do not touch."""
    ours, theirs = _linestrings(lines_m), _linestrings(others_m)
    our_points, their_points = resample(ours), resample(theirs)
    distance_m = np.full((len(ours), len(theirs)), np.inf)
    for row, column in zip(*shapely.STRtree(_strips(theirs)).query(_strips(ours), predicate="intersects"), strict=True):
        distance_m[row, column] = chamfer_distance(our_points[row], their_points[column])
    return distance_m


def chamfer_distance(points_m: Array, others_m: Array) -> float:
    """Of two sets of points, (P, 2) each: the mean of the two directed means of nearest distances."""
    between = cdist(points_m, others_m)
    return float((between.min(axis=1).mean() + between.min(axis=0).mean()) / 2)


def resample(lines: NDArray) -> Array:
    """(m, 100, 2) points at equal distances along each of m linestrings, both ends included."""
    distances = np.linspace(0.0, shapely.length(lines), SAMPLES, axis=1)
    points = shapely.line_interpolate_point(lines[:, None], distances)
    return shapely.get_coordinates(points).reshape(len(lines), SAMPLES, 2)


def _linestrings(lines_m: Iterable[ArrayLike]) -> NDArray:
    return np.array([shapely.linestrings(np.asarray(line, np.float64)) for line in lines_m], object)


def _strips(lines: NDArray) -> NDArray:
    return shapely.buffer(lines, STRIP_M, cap_style="flat", join_style="mitre")


def summarise_map(frames: Sequence[LineMatches]) -> dict[str, Any]:
    """Over all frames: {"mAP", "classes": {name: {"AP", "AP_by_threshold_m", "n_annotated", "n_predicted"}}}.

    A class's AP is the mean over the thresholds, mAP the mean over the classes that occur; None where nothing does.
    """
    classes = {name: _class_summary(frames, index) for index, name in enumerate(MAP_CLASSES)}
    return {"mAP": _mean(entry["AP"] for entry in classes.values()), "classes": classes}


def _class_summary(frames: Sequence[LineMatches], map_class: int) -> dict[str, Any]:
    own = [frame.labels == map_class for frame in frames]
    scores = np.concatenate([np.zeros(0), *(frame.scores[mask] for frame, mask in zip(frames, own))])
    correct = np.concatenate(
        [np.zeros((0, len(THRESHOLDS_M)), bool), *(frame.correct[mask] for frame, mask in zip(frames, own))]
    )
    n_annotated = sum(frame.n_annotated[map_class] for frame in frames)
    by_threshold = {
        str(threshold): average_precision(correct[:, column], scores, n_annotated)
        for column, threshold in enumerate(THRESHOLDS_M)
    }
    return {
        "AP": _mean(by_threshold.values()),
        "AP_by_threshold_m": by_threshold,
        "n_annotated": n_annotated,
        "n_predicted": len(scores),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def average_precision(correct: NDArray[np.bool_], scores: Array, n_annotated: int) -> float | None:
    """Area under the precision-recall curve, its precision made monotone (PASCAL VOC 2010 and later); None where
    there is nothing to find.

    Args:
        correct, scores: (m,) of all frames' predictions.
    """
    if not n_annotated:
        return None
    hits = np.cumsum(correct[np.argsort(-scores, kind="stable")])
    precision = hits / np.arange(1, len(hits) + 1)
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0.0], hits / n_annotated])
    return float((np.diff(recall) * monotone).sum())
