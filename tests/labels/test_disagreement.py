"""Errors put into right labels are found by a model that is mostly right, and ranked above what is in order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from sead_ray.evaluation.predictions import FramePrediction
from sead_ray.labels.disagreement import Suspect, frame_evidence, rank_suspects
from sead_ray.nuscenes.agents import class_index
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.targets import build_targets
from sead_ray.records import AGENT_CLASSES, OBJECT_CATEGORIES, Annotation, Clip, FrameLabels


@dataclass(frozen=True)
class Frame:
    clip: Clip
    index: int
    labels: FrameLabels
    seen: FramePrediction


def noisy_prediction(
    clip: Clip, index: int, labels: dict[str, FrameLabels], rng: np.random.Generator
) -> FramePrediction:
    """A detector: finds nine of ten, 20 cm off, sure of it to a varying degree; and dreams a little."""
    targets = build_targets(clip, index, labels)
    kept = rng.random(len(targets.labels)) < 0.9
    boxes = targets.boxes[kept].copy()
    boxes[:, :2] += rng.normal(0, 0.2, (len(boxes), 2))
    dreams = np.zeros((5, 9), np.float32)
    dreams[:, :2] = rng.uniform((-12, -25), (12, 25), (5, 2))
    dreams[:, 3:6] = 1.0
    scores = np.r_[rng.uniform(0.5, 0.95, len(boxes)), rng.uniform(0.02, 0.3, 5)]
    order = np.argsort(-scores)
    return FramePrediction(
        boxes=np.concatenate([boxes, dreams])[order].astype(np.float32),
        scores=scores[order].astype(np.float32),
        labels=np.r_[targets.labels[kept], rng.integers(0, 10, 5)][order],
        offsets_m=np.zeros((len(scores), 1, 6, 2), np.float32),
        lines_m=np.zeros((0, 2, 2), np.float32),
        line_scores=np.zeros(0, np.float32),
        line_labels=np.zeros(0, np.int64),
    )


@pytest.fixture(scope="module")
def frames(world_folder: NuScenesFolder) -> list[Frame]:
    rng = np.random.default_rng(0)
    found = []
    for token in world_folder.pool_scenes():
        clip = world_folder.clip(token, "pool")
        labels = {item.frame_token: item for item in world_folder.labels(token)}
        for index, frame in enumerate(clip.frames):
            found.append(Frame(clip, index, labels[frame.token], noisy_prediction(clip, index, labels, rng)))
    return found


def ranked(frames: list[Frame]) -> list[Suspect]:
    return rank_suspects([e for f in frames for e in frame_evidence(f.clip, f.index, f.labels, f.seen)])


def seen_well(frame: Frame) -> list[int]:
    """Annotations that a detection of their class lies on: nothing is suspected of them."""
    good = []
    for number, item in enumerate(frame.labels.annotations):
        evidence = frame_evidence(frame.clip, frame.index, replace(frame.labels, annotations=(item,)), frame.seen)
        own = [e for e in evidence if e.label >= 0]
        if own and own[0].seen >= 0 and own[0].confidence > 0.6 and own[0].distance_m < 0.4:
            good.append(number)
    return good


def with_annotations(frame: Frame, annotations: list[Annotation]) -> Frame:
    return replace(frame, labels=replace(frame.labels, annotations=tuple(annotations)))


def drop(frame: Frame, number: int) -> Frame:
    return with_annotations(frame, [a for i, a in enumerate(frame.labels.annotations) if i != number])


def move(frame: Frame, number: int) -> Frame:
    """By 1.5 m, which a person easily oversees."""
    items = list(frame.labels.annotations)
    x, y, z = items[number].translation_m
    items[number] = replace(items[number], translation_m=(x + 1.2, y + 0.9, z))
    return with_annotations(frame, items)


def rename(frame: Frame, number: int) -> Frame:
    items = list(frame.labels.annotations)
    other = "vehicle.truck" if items[number].category != "vehicle.truck" else "vehicle.car"
    items[number] = replace(items[number], category=other, category_index=OBJECT_CATEGORIES.index(other))
    return with_annotations(frame, items)


def invent(frame: Frame, number: int) -> Frame:
    """A car where none is: on the other side of the ego."""
    items = list(frame.labels.annotations)
    x, y, z = frame.clip.frames[frame.index].global_from_ego.translation_m
    ghost = replace(items[number], instance_token="ghost", category="vehicle.car", category_index=17)
    items.append(replace(ghost, translation_m=(x + 1.0, y - 1.0, z + 0.9)))  # inside the ego itself
    return with_annotations(frame, items)


KINDS = {"missing": drop, "moved": move, "class": rename, "spurious": invent}


@pytest.mark.parametrize("kind", KINDS)
def test_injected_errors_rank_first(kind: str, frames: list[Frame]) -> None:
    rng = np.random.default_rng(1)
    candidates = [(position, number) for position, frame in enumerate(frames) for number in seen_well(frame)]
    chosen = [candidates[i] for i in rng.choice(len(candidates), 12, replace=False)]
    chosen = list(dict(chosen).items())  # one a frame
    spoilt = list(frames)
    for position, number in chosen:
        spoilt[position] = KINDS[kind](frames[position], number)
    suspects = [item for item in ranked(spoilt) if item.kind == kind]
    wanted = {frames[position].labels.frame_token for position, _ in chosen}
    first = {item.frame_token for item in suspects[: len(wanted)]}
    assert len(first & wanted) >= 0.75 * len(wanted)
    before = {(item.frame_token, item.kind, item.center_m) for item in ranked(frames)}
    new = [item for item in suspects if (item.frame_token, item.kind, item.center_m) not in before]
    assert {item.frame_token for item in new} >= first & wanted


def test_right_labels_are_suspected_seldom_and_less(frames: list[Frame]) -> None:
    n_labels = sum(class_index(a.category) >= 0 for frame in frames for a in frame.labels.annotations)
    suspects = ranked(frames)
    assert sum(item.score > 0.5 for item in suspects if item.kind != "spurious") <= 0.02 * n_labels
    assert sum(item.kind == "moved" for item in suspects) <= 0.05 * n_labels


def test_a_model_that_sees_nothing_accuses_nobody(frames: list[Frame]) -> None:
    blind = FramePrediction(
        boxes=np.zeros((0, 9), np.float32),
        scores=np.zeros(0, np.float32),
        labels=np.zeros(0, np.int64),
        offsets_m=np.zeros((0, 1, 6, 2), np.float32),
        lines_m=np.zeros((0, 2, 2), np.float32),
        line_scores=np.zeros(0, np.float32),
        line_labels=np.zeros(0, np.int64),
    )
    assert ranked([replace(frame, seen=blind) for frame in frames]) == []


def test_suspects_say_where_to_look(frames: list[Frame]) -> None:
    position = next(i for i, frame in enumerate(frames) if seen_well(frame))
    number = seen_well(frames[position])[0]
    item = frames[position].labels.annotations[number]
    spoilt = [*frames[:position], drop(frames[position], number), *frames[position + 1 :]]
    found = next(s for s in ranked(spoilt) if s.kind == "missing")
    assert np.linalg.norm(np.subtract(found.center_m, item.translation_m)) < 1.0
    assert found.model_class == AGENT_CLASSES[class_index(item.category)]
    assert "is seen with confidence" in found.describe()
