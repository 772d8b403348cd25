"""Likely label errors: where a model that is often right disagrees with a label. Nothing here decides; it ranks.

Detections claim labels as nuScenes' evaluator lets them: by falling confidence, the nearest of the same class within
2 m. What is left over on either side, and pairs that lie unusually far apart, is suspected:

    missing   a confident detection where nothing is labelled.
    class     a confident detection on a label of another class.
    spurious  a label that a model that finds most of its class does not find, nor the rest of its track.
    moved     a label beside its detection, further than the model's own usual error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sead_ray.evaluation.predictions import FramePrediction
from sead_ray.geometry import transform_points
from sead_ray.nuscenes.agents import agent_box, class_index
from sead_ray.nuscenes.map_vectors import HALF_X_M, HALF_Y_M
from sead_ray.records import AGENT_CLASSES, Annotation, Clip, FrameLabels

MATCH_M = 2.0  # nuScenes' distance for true positives
CLASS_M = 1.0  # two boxes nearer than this are of one object, whatever they are called
EDGE_M = 1.0  # at the edge of the model's range a box may be in it and its detection not
USUAL = 3.0  # times the model's median error of the class is still usual
LEAST_MOVED_M = 0.5

Kind = Literal["missing", "class", "spurious", "moved"]


@dataclass(frozen=True)
class Evidence:
    """One label, or one detection that no label explains, of one frame.

    Attributes:
        label, seen: classes (index into AGENT_CLASSES) of the label and of the detection; -1 where there is none.
        confidence: of the detection; of a label that was not found, the highest of its class within MATCH_M.
        distance_m: between the two in the ground plane; NaN where one is missing.
        center_m: where to look, global.
        on_label: a detection that lies on a label of another class; `instance` is that label's.
    """

    clip_token: str
    frame_token: str
    frame_index: int
    label: int
    seen: int
    confidence: float
    distance_m: float
    center_m: tuple[float, float, float]
    instance: str = ""
    on_label: int = -1


@dataclass(frozen=True)
class Suspect:
    """One likely error. `score` 0 to 1: how sure the model is of it; it ranks, and is no probability."""

    kind: Kind
    score: float
    clip_token: str
    frame_token: str
    frame_index: int
    instance: str
    label_class: str
    model_class: str
    confidence: float
    distance_m: float | None
    center_m: tuple[float, float, float]

    def describe(self) -> str:
        """One sentence."""
        x, y, z = self.center_m
        where = f"at ({x:.1f}, {y:.1f}, {z:.1f})"
        if self.kind == "missing":
            return f"a {self.model_class} {where} is seen with confidence {self.confidence:.2f}, and not labelled"
        if self.kind == "class":
            return f"the {self.label_class} {where} looks like a {self.model_class} ({self.confidence:.2f})"
        if self.kind == "spurious":
            return f"the {self.label_class} {where} is not seen (confidence {self.confidence:.2f})"
        return f"the {self.label_class} {where} is seen {self.distance_m:.1f} m beside its label"


def frame_evidence(clip: Clip, index: int, labels: FrameLabels, seen: FramePrediction) -> list[Evidence]:
    """Compares one frame's labels, as far as VAD is trained on such, with what the model sees."""
    frame = clip.frames[index]
    lidar_from_global = np.linalg.inv(frame.global_from_lidar)
    items, boxes = _in_range(labels.annotations, lidar_from_global)
    classes = np.array([class_index(item.category) for item in items], np.int64)
    apart_m = np.linalg.norm(boxes[:, None, :2] - seen.boxes[None, :, :2], axis=2)  # (labels, detections)
    same = classes[:, None] == seen.labels[None]
    match = _match(np.where(same, apart_m, np.inf), seen.scores)
    near_same = np.where(same & (apart_m < MATCH_M), seen.scores[None], 0.0).max(axis=1, initial=0.0)
    facts: dict[str, Any] = {"clip_token": clip.clip_token, "frame_token": frame.token, "frame_index": index}
    found = []
    for row, item in enumerate(items):
        column = match.get(row, -1)
        found.append(
            Evidence(
                **facts,
                label=int(classes[row]),
                seen=int(classes[row]) if column >= 0 else -1,
                confidence=float(seen.scores[column] if column >= 0 else near_same[row]),
                distance_m=float(apart_m[row, column]) if column >= 0 else float("nan"),
                center_m=item.translation_m,
                instance=item.instance_token,
            )
        )
    centers_m = transform_points(frame.global_from_lidar, seen.boxes[:, :3])
    for column in sorted(set(range(len(seen.scores))) - set(match.values())):
        if same[:, column].any() and apart_m[same[:, column], column].min() < MATCH_M:
            continue  # sees a second time what another detection found
        if not _well_inside(seen.boxes[column]):
            continue
        row = int(apart_m[:, column].argmin()) if len(items) else -1
        on = row >= 0 and apart_m[row, column] < CLASS_M and row not in match
        x, y, z = centers_m[column].tolist()
        found.append(
            Evidence(
                **facts,
                label=-1,
                seen=int(seen.labels[column]),
                confidence=float(seen.scores[column]),
                distance_m=float(apart_m[row, column]) if on else float("nan"),
                center_m=(x, y, z),
                instance=items[row].instance_token if on else "",
                on_label=int(classes[row]) if on else -1,
            )
        )
    return found


def rank_suspects(evidence: Sequence[Evidence], min_score: float = 0.1) -> list[Suspect]:
    """The most likely errors first, from the evidence of all frames: what is usual for the model is learnt from it."""
    usual = _Usual.of(evidence)
    renamed = {
        (item.frame_token, item.instance): item.confidence for item in evidence if item.on_label >= 0
    }  # such a label is not spurious as well
    found = []
    for item in evidence:
        suspect = _suspect(item, usual)
        if suspect is None or suspect.score < min_score:
            continue
        told = renamed.get((item.frame_token, item.instance), 0.0)
        if suspect.kind == "spurious" and told >= min_score:
            continue
        found.append(suspect)
    return sorted(found, key=lambda item: (-item.score, item.clip_token, item.frame_index, item.kind, item.center_m))


def _suspect(item: Evidence, usual: _Usual) -> Suspect | None:
    if item.label < 0:
        kind: Kind = "class" if item.on_label >= 0 else "missing"
        return _made(
            item, kind, item.confidence * usual.precision(item.seen, item.confidence), item.on_label, item.seen
        )
    if item.seen < 0:
        found, total = usual.tracks[item.clip_token, item.instance]
        elsewhere = found / (total - 1) if total > 1 else 0.0  # what is found in other frames is there
        score = usual.recall[item.label] * (1 - item.confidence) * (1 - elsewhere)
        return _made(item, "spurious", score, item.label, -1)
    if item.distance_m <= max(LEAST_MOVED_M, USUAL * usual.error_m[item.label]):
        return None
    return _made(item, "moved", item.confidence * min(1.0, item.distance_m / MATCH_M), item.label, item.seen)


def _made(item: Evidence, kind: Kind, score: float, label: int, seen: int) -> Suspect:
    return Suspect(
        kind=kind,
        score=float(score),
        clip_token=item.clip_token,
        frame_token=item.frame_token,
        frame_index=item.frame_index,
        instance=item.instance,
        label_class=AGENT_CLASSES[label] if label >= 0 else "",
        model_class=AGENT_CLASSES[seen] if seen >= 0 else "",
        confidence=item.confidence,
        distance_m=None if np.isnan(item.distance_m) else item.distance_m,
        center_m=item.center_m,
    )


@dataclass(frozen=True)
class _Usual:
    """What is usual for the model, learnt from all its agreements and disagreements: most labels are right.

    Attributes:
        recall: of each class, the mean confidence with which its labels are found, 0 for those that are not.
        error_m: of each class, the median distance between label and detection.
        tracks: of each (clip, instance), how many of its labels are found, and how many it has.
        right, wrong: of each class, confidences of detections that labels explain and of those that none does, sorted.
    """

    recall: Mapping[int, float]
    error_m: Mapping[int, float]
    tracks: Mapping[tuple[str, str], tuple[int, int]]
    right: Mapping[int, NDArray[np.float64]]
    wrong: Mapping[int, NDArray[np.float64]]

    @classmethod
    def of(cls, evidence: Iterable[Evidence]) -> _Usual:
        confidences: dict[int, list[float]] = defaultdict(list)
        errors_m: dict[int, list[float]] = defaultdict(list)
        right: dict[int, list[float]] = defaultdict(list)
        wrong: dict[int, list[float]] = defaultdict(list)
        tracks: dict[tuple[str, str], tuple[int, int]] = {}
        for item in evidence:
            if item.label < 0:
                wrong[item.seen].append(item.confidence)
                continue
            found, total = tracks.get((item.clip_token, item.instance), (0, 0))
            tracks[item.clip_token, item.instance] = (found + (item.seen >= 0), total + 1)
            confidences[item.label].append(item.confidence if item.seen >= 0 else 0.0)
            if item.seen >= 0:
                errors_m[item.label].append(item.distance_m)
                right[item.label].append(item.confidence)
        return cls(
            recall={label: float(np.mean(values)) for label, values in confidences.items()},
            error_m={label: float(np.median(values)) for label, values in errors_m.items()},
            tracks=tracks,
            right={label: np.sort(values) for label, values in right.items()},
            wrong={label: np.sort(values) for label, values in wrong.items()},
        )

    def precision(self, label: int, confidence: float) -> float:
        """Of the class's detections that are at least so sure, the share that labels explain."""
        n_right, n_wrong = (_at_least(values.get(label), confidence) for values in (self.right, self.wrong))
        return n_right / (n_right + n_wrong) if n_right else 0.0


def _at_least(values: NDArray[np.float64] | None, limit: float) -> int:
    return 0 if values is None else len(values) - int(np.searchsorted(values, limit))


def _in_range(
    annotations: Sequence[Annotation], lidar_from_global: NDArray[np.float64]
) -> tuple[list[Annotation], NDArray[np.float64]]:
    """Labels that VAD is trained on: of its classes, with returns, within its range; and their (n, 9) boxes."""
    items, boxes = [], []
    for item in annotations:
        if class_index(item.category) < 0 or item.n_lidar_points + item.n_radar_points <= 0:
            continue
        box = agent_box(item, np.zeros(2), lidar_from_global)
        if _well_inside(box):
            items.append(item)
            boxes.append(box)
    return items, np.array(boxes, np.float64).reshape(-1, 9)


def _well_inside(box: NDArray) -> bool:
    return bool(abs(box[0]) < HALF_X_M - EDGE_M and abs(box[1]) < HALF_Y_M - EDGE_M)


def _match(apart_m: NDArray[np.float64], scores: NDArray[np.float32]) -> dict[int, int]:
    """Label row -> detection column: the surest detection first, each takes the nearest label that is left."""
    taken: dict[int, int] = {}
    for column in np.argsort(-scores, kind="stable").tolist():
        left = [row for row in range(len(apart_m)) if row not in taken and apart_m[row, column] < MATCH_M]
        if left:
            taken[min(left, key=lambda row: apart_m[row, column])] = column
    return taken
