"""Our in-memory path through nuScenes' detection evaluator gives what the devkit gives on a folder and a submission."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.evaluate import DetectionEval

from sead_ray.config import DataConfig
from sead_ray.evaluation.detection import PROTOCOLS, class_curves, detection_metrics
from sead_ray.evaluation.detection_frames import ATTRIBUTES_BY_SPEED, FrameDetections, clip_detections
from sead_ray.geometry import quaternion_from_heading
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.targets import build_targets
from sead_ray.records import AGENT_CLASSES, Annotation, Clip, FrameLabels
from tests.evaluation.made_up import noisy, prediction
from tests.hand_made import make_clip

VERSION = DataConfig().version
RACK_TOKEN = "made-up-rack"


@pytest.fixture(scope="module")
def folder_with_racks(tiny_world: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with a bicycle rack around some of its cycles, and the val scenes as a split of its own."""
    root = tmp_path_factory.mktemp("detection") / "nuscenes"
    root.mkdir()
    for path in Path(tiny_world).iterdir():
        if path.name not in (VERSION, "splits.json"):
            (root / path.name).symlink_to(path)
    (root / VERSION).mkdir()
    tables = {path.stem: json.loads(path.read_text()) for path in (Path(tiny_world) / VERSION).glob("*.json")}
    _add_racks(tables)
    splits = json.loads((Path(tiny_world) / "splits.json").read_text())
    tables["splits"] = {"held_out": splits["val"], "train": splits["train"]}
    for name, rows in tables.items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(rows))
    return root


def _add_racks(tables: dict[str, Any]) -> None:
    names = {row["token"]: row["name"] for row in tables["category"]}
    cycles = {row["token"] for row in tables["instance"] if names[row["category_token"]] in CYCLES}
    rack = next(row["token"] for row in tables["category"] if row["name"] == "static_object.bicycle_rack")
    inside = [row for row in tables["sample_annotation"] if row["instance_token"] in cycles][::2]
    for number, row in enumerate(inside):
        token = f"{RACK_TOKEN}-{number}"
        tables["instance"].append({**tables["instance"][0], "token": token, "category_token": rack})
        new = {**row, "token": token, "instance_token": token, "size": [4.0, 4.0, 4.0]}
        tables["sample_annotation"].append({**new, "attribute_tokens": [], "prev": "", "next": ""})


CYCLES = ("vehicle.bicycle", "vehicle.motorcycle")


@pytest.fixture(scope="module")
def frames(folder_with_racks: Path) -> list[FrameDetections]:
    folder = NuScenesFolder(DataConfig(root=str(folder_with_racks), val_split="held_out"))
    rng = np.random.default_rng(4)
    found: list[FrameDetections] = []
    for token in folder.scenes("held_out"):
        clip = folder.clip(token, "val")
        labels = {item.frame_token: item for item in folder.labels(token)}
        targets = [build_targets(clip, t, labels) for t in range(len(clip.frames))]
        found += clip_detections(clip, [noisy(target, rng) for target in targets], labels)
    return found


def submission(frames: list[FrameDetections], path: Path) -> str:
    results = {}
    for frame in frames:
        own = frame.predicted
        results[frame.frame_token] = [
            {
                "sample_token": frame.frame_token,
                "translation": own.centers_m[i].tolist(),
                "size": own.sizes_wlh_m[i].tolist(),
                "rotation": own.rotations_wxyz[i].tolist(),
                "velocity": own.velocities_mps[i].tolist(),
                "detection_name": AGENT_CLASSES[own.labels[i]],
                "detection_score": float(own.scores[i]),
                "attribute_name": own.attributes[i],
            }
            for i in range(len(own.labels))
        ]
    meta = {f"use_{name}": name == "camera" for name in ("camera", "lidar", "radar", "map", "external")}
    path.write_text(json.dumps({"meta": meta, "results": results}))
    return str(path)


def test_the_numbers_are_those_of_the_devkit(
    folder_with_racks: Path, frames: list[FrameDetections], tmp_path: Path
) -> None:
    nusc = NuScenes(VERSION, str(folder_with_racks), verbose=False)
    evaluator = DetectionEval(
        nusc,
        config_factory("detection_cvpr_2019"),
        submission(frames, tmp_path / "results.json"),
        "held_out",
        str(tmp_path),
        verbose=False,
    )
    expected = evaluator.evaluate()[0].serialize()
    found = detection_metrics(frames)
    assert found["mAP"] == expected["mean_ap"] > 0.01
    assert found["NDS"] == expected["nd_score"]
    published = {"mATE": "trans_err", "mASE": "scale_err", "mAOE": "orient_err", "mAVE": "vel_err", "mAAE": "attr_err"}
    assert {name: found[name] for name in published} == {
        name: expected["tp_errors"][e] for name, e in published.items()
    }
    assert 0 < found["mAAE"] < 1
    for name in AGENT_CLASSES:
        own = found["classes"][name]
        assert own["AP"] == expected["mean_dist_aps"][name]
        assert own["AP_by_distance_m"] == {str(d): ap for d, ap in expected["label_aps"][name].items()}
        for short, error in published.items():
            value = expected["label_tp_errors"][name][error]
            assert own[short[1:]] == (None if np.isnan(value) else value), (name, short)
    # the filters had something to do
    admitted = {token: len(evaluator.gt_boxes[token]) for token in evaluator.gt_boxes.sample_tokens}
    assert sum(admitted.values()) < sum(len(frame.annotated.labels) for frame in frames)
    assert any(frame.bicycle_racks for frame in frames)


def test_every_protocol_is_json_and_named(frames: list[FrameDetections]) -> None:
    reports = json.loads(json.dumps({name: detection_metrics(frames, name) for name in PROTOCOLS}, allow_nan=False))
    assert len({report["mAP"] for report in reports.values()}) == 3
    # what VAD cannot see no longer counts as missed
    assert reports["vad_range"]["classes"]["car"]["AP"] > reports["nuscenes"]["classes"]["car"]["AP"]


def test_an_unknown_protocol_is_refused(frames: list[FrameDetections]) -> None:
    with pytest.raises(ValueError, match="vad_rnage"):
        class_curves(frames, "car", "vad_rnage")


def car_at(x_m: float, y_m: float, clip: Clip, points: int = 5) -> Annotation:
    """A car as the annotation of the clip's first frame, at a place in its lidar frame, heading along +y there."""
    matrix = clip.frames[0].global_from_lidar
    center = (matrix @ [x_m, y_m, 0.0, 1.0])[:3]
    heading = np.arctan2(matrix[1, 1], matrix[0, 1])
    rotation = quaternion_from_heading(float(heading))
    return Annotation(f"{x_m},{y_m}", "vehicle.car", 17, tuple(center), (2.0, 4.5, 1.6), rotation, points, 0)


def one_frame(places: list[tuple[float, float]], found: list[tuple[float, float, float]]) -> list[FrameDetections]:
    """Annotated cars at x, y and predicted ones at x, y with a score, all heading along +y of the lidar."""
    clip = make_clip(n_frames=1)
    labels = FrameLabels(clip.frames[0].token, clip.clip_token, 0, tuple(car_at(*place, clip) for place in places), ())
    boxes = [[x, y, 0, 2.0, 4.5, 1.6, -np.pi, 0, 0] for x, y, _ in found]
    predicted = prediction(np.array(boxes).reshape(-1, 9), [score for *_, score in found], [0] * len(found))
    return clip_detections(clip, [predicted], {labels.frame_token: labels})


def test_a_perfect_car_has_ap_1_and_no_error() -> None:
    car = detection_metrics(one_frame([(3, 10)], [(3, 10, 0.9)]))["classes"]["car"]
    assert car["AP"] == pytest.approx(1)
    assert car["ATE"] == pytest.approx(0, abs=1e-5)
    assert car["ASE"] == pytest.approx(0, abs=1e-5)
    assert car["AOE"] == pytest.approx(0, abs=1e-5)


def test_vad_range_leaves_out_what_lies_outside_the_patch() -> None:
    frames = one_frame([(3, 10), (20, 0)], [(3, 10, 0.9), (18, 0, 0.8)])
    assert detection_metrics(frames, "vad_range")["classes"]["car"]["AP"] == pytest.approx(1)
    assert detection_metrics(frames, "nuscenes")["classes"]["car"]["AP"] < 0.75


def test_vad_published_drops_boxes_below_its_threshold() -> None:
    frames = one_frame([(3, 10)], [(3, 10, 0.19)])
    assert detection_metrics(frames, "vad_published")["classes"]["car"]["AP"] == 0
    assert detection_metrics(frames, "vad_range")["classes"]["car"]["AP"] == pytest.approx(1)


def test_a_split_without_any_box_has_a_number() -> None:
    report = detection_metrics(one_frame([], []))
    assert report["mAP"] == 0
    assert report["NDS"] == 0


@pytest.mark.parametrize("name", AGENT_CLASSES)
def test_attributes_are_those_of_the_class(name: str) -> None:
    from nuscenes.eval.detection.utils import detection_name_to_rel_attributes

    allowed = detection_name_to_rel_attributes(name) or [""]
    assert set(ATTRIBUTES_BY_SPEED[name]) <= set(allowed)


def test_attributes_follow_the_speed() -> None:
    clip = make_clip(n_frames=1)
    boxes = np.zeros((4, 9))
    boxes[:, 3:6] = 1
    boxes[1::2, 7] = 0.3
    labels = [AGENT_CLASSES.index(name) for name in ("bus", "bus", "pedestrian", "pedestrian")]
    predicted = prediction(boxes, [0.9] * 4, labels)
    empty = FrameLabels(clip.frames[0].token, clip.clip_token, 0, (), ())
    (frame,) = clip_detections(clip, [predicted], {empty.frame_token: empty})
    names = ("vehicle.stopped", "vehicle.moving", "pedestrian.standing", "pedestrian.moving")
    assert frame.predicted.attributes == names
    assert np.hypot(*frame.predicted.velocities_mps[1]) == pytest.approx(0.3, abs=1e-6)
