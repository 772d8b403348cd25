"""The generated world is a genuine nuScenes folder, and its pixels, points and tables tell the same story."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.map_expansion.map_api import NuScenesMap
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from shapely.geometry import LinearRing, MultiPolygon, Polygon

from sead_ray.config import WorldConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.map_drawing import mend_devkit, polygon_patch
from sead_ray.synthetic import generate_world
from sead_ray.synthetic.episode import overlapping
from sead_ray.synthetic.plan import plan_world

WORLD = WorldConfig(scenes=6, frames=8, image_width=160, image_height=90, seed=3)
SMALL = WorldConfig(scenes=4, frames=8, image_width=96, image_height=54, seed=5)


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def world_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    generate_world(WORLD, str(root), processes=2)
    return root


@pytest.fixture(scope="module")
def nusc(world_root: Path) -> NuScenes:
    return NuScenes("v1.0-trainval", str(world_root), verbose=False)


@pytest.fixture(scope="module")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small")
    generate_world(SMALL, str(root), processes=1)
    return root


def test_tables_are_linked(nusc: NuScenes) -> None:
    for table in ("sample", "sample_data", "sample_annotation"):
        rows = getattr(nusc, table)
        assert len({row["token"] for row in rows}) == len(rows)
        for row in rows:
            assert len(row["token"]) == 32
            if row["next"]:
                assert nusc.get(table, row["next"])["prev"] == row["token"]
            if row["prev"]:
                assert nusc.get(table, row["prev"])["next"] == row["token"]
    for scene in nusc.scene:
        token, count = scene["first_sample_token"], 0
        while token:
            count, last = count + 1, token
            token = nusc.get("sample", token)["next"]
        assert count == scene["nbr_samples"] == WORLD.frames
        assert last == scene["last_sample_token"]
    for sample in nusc.sample:
        assert len(sample["data"]) == 7
    for data in nusc.sample_data:
        assert nusc.get("ego_pose", data["ego_pose_token"])["timestamp"] == data["timestamp"]
        assert (Path(nusc.dataroot) / data["filename"]).is_file()
    for instance in nusc.instance:
        token, count = instance["first_annotation_token"], 0
        while token:
            annotation = nusc.get("sample_annotation", token)
            assert annotation["instance_token"] == instance["token"]
            token, count = annotation["next"], count + 1
        assert count == instance["nbr_annotations"]


def test_categories_are_the_expanded_table(nusc: NuScenes) -> None:
    names = [row["name"] for row in sorted(nusc.category, key=lambda row: row["index"])]
    assert len(names) == 32
    assert names[0] == "noise"
    assert all(name.startswith("human.") for name in names[2:9])
    assert all(name.startswith("vehicle.") for name in names[14:24])


def test_point_counts_are_those_of_the_file(nusc: NuScenes) -> None:
    with_points = 0
    for sample in nusc.sample:
        path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        points = LidarPointCloud.from_file(path).points[:3]
        for box in boxes:
            annotation = nusc.get("sample_annotation", box.token)
            assert points_in_box(box, points).sum() == annotation["num_lidar_pts"]
            with_points += annotation["num_lidar_pts"] > 0
    assert with_points > 0.6 * len(nusc.sample_annotation)


def test_who_can_be_seen_has_more_points(nusc: NuScenes) -> None:
    counts: dict[str, list[int]] = {"1": [], "4": []}
    for row in nusc.sample_annotation:
        sample = nusc.get("sample", row["sample_token"])
        ego = nusc.get("ego_pose", nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["ego_pose_token"])
        away = np.hypot(*(np.array(row["translation"]) - ego["translation"])[:2])
        if row["visibility_token"] in counts and 5 < away < 30 and row["category_name"].startswith("vehicle.car"):
            counts[row["visibility_token"]].append(row["num_lidar_pts"])
    assert min(map(len, counts.values())) >= 5
    assert np.mean(counts["4"]) > 2 * np.mean(counts["1"])
    assert np.mean(np.array(counts["4"]) > 0) > 0.95


def test_the_devkit_draws_it(nusc: NuScenes, world_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    sample = nusc.sample[3]
    for channel in ("CAM_FRONT", "LIDAR_TOP"):
        out = tmp_path / f"{channel}.png"
        nusc.render_sample_data(sample["data"][channel], out_path=str(out), verbose=False)
        assert out.stat().st_size > 5000
    shown = next(row for row in nusc.sample_annotation if row["visibility_token"] == "4" and row["num_lidar_pts"] > 20)
    nusc.render_annotation(shown["token"], out_path=str(tmp_path / "annotation.png"))
    assert (tmp_path / "annotation.png").stat().st_size > 5000


def test_the_devkit_draws_its_maps(nusc: NuScenes, world_root: Path, tmp_path: Path) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    mend_devkit()
    scene = nusc.scene[0]
    town = NuScenesMap(str(world_root), nusc.get("log", scene["log_token"])["location"])
    town.render_layers(["drivable_area", "walkway", "ped_crossing"])
    town.render_map_patch((100, 100, 300, 300), ["drivable_area", "lane", "stop_line"])
    layers = ["road_segment", "lane", "ped_crossing", "walkway"]
    town.render_map_in_image(nusc, scene["first_sample_token"], layer_names=layers)
    town.render_egoposes_on_fancy_map(nusc, [scene["token"]], verbose=False)
    for number in plt.get_fignums():
        figure = plt.figure(number)
        figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 5000
    plt.close("all")


def test_a_polygon_keeps_its_holes() -> None:
    ring = Polygon([(0, 0), (4, 0), (4, 4), (0, 4)], [[(1, 1), (3, 1), (3, 3), (1, 3)]])
    other = Polygon([(9, 9), (10, 9), (10, 10)])
    path = polygon_patch(MultiPolygon([ring, other]), fc="red").get_path()
    turns = [LinearRing(corners).is_ccw for corners in path.to_polygons()]
    assert turns == [True, False, True]  # a hole runs the other way round, which leaves it empty
    assert len(polygon_patch(Polygon()).get_path().vertices) == 0
    with pytest.raises(TypeError, match="Polygon"):
        polygon_patch([(0, 0), (1, 1)])


def test_truth_lies_beside_the_data_set(nusc: NuScenes, world_root: Path) -> None:
    truth = json.loads((world_root / "world_truth.json").read_text())
    assert sorted(truth["scenes"]) == sorted(scene["name"] for scene in nusc.scene)
    record = json.loads((world_root / "world.json").read_text())
    assert record["name"] == truth["world"]
    source = Path(__file__).parents[2] / "sead_ray"
    readers = [path for path in source.rglob("*.py") if "world_truth" in path.read_text()]
    assert [path.name for path in readers] == ["world.py"]  # which writes it


def test_boxes_do_not_overlap_and_do_not_jump(nusc: NuScenes) -> None:
    for sample in nusc.sample:
        boxes = nusc.get_boxes(sample["data"]["LIDAR_TOP"])
        poses = np.array([[*box.center[:2], box.orientation.yaw_pitch_roll[0]] for box in boxes]).reshape(-1, 3)
        assert not overlapping(poses, np.array([box.wlh for box in boxes]).reshape(-1, 3), margin_m=0.0)
    for row in nusc.sample_annotation:
        velocity = nusc.box_velocity(row["token"])
        assert np.isnan(velocity).any() or np.linalg.norm(velocity) < 16.0


def test_can_pose_agrees_with_ego_pose(nusc: NuScenes, world_root: Path) -> None:
    can = NuScenesCanBus(str(world_root))
    without = 0
    for scene in nusc.scene:
        try:
            messages = can.get_messages(scene["name"], "pose")
        except Exception:
            without += 1
            continue
        times = np.array([message["utime"] for message in messages], np.float64)
        assert np.median(np.diff(times)) == pytest.approx(20_000, abs=2)
        assert np.median(np.diff([m["utime"] for m in can.get_messages(scene["name"], "steeranglefeedback")])) < 10_010
        assert np.diff([m["utime"] for m in can.get_messages(scene["name"], "vehicle_monitor")])[0] == 500_000
        sample = nusc.get("sample", scene["first_sample_token"])
        while sample["next"]:
            ego = nusc.get("ego_pose", nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["ego_pose_token"])
            for axis in range(2):
                position = np.interp(ego["timestamp"], times, [message["pos"][axis] for message in messages])
                assert position == pytest.approx(ego["translation"][axis], abs=0.02)
            sample = nusc.get("sample", sample["next"])
    assert without == 1


def test_map_holds_the_ego(nusc: NuScenes, world_root: Path) -> None:
    maps = {row["location"]: NuScenesMap(str(world_root), row["location"]) for row in nusc.log}
    for scene in nusc.scene:
        log = nusc.get("log", scene["log_token"])
        data = nusc.get("sample_data", nusc.get("sample", scene["first_sample_token"])["data"]["LIDAR_TOP"])
        x, y = nusc.get("ego_pose", data["ego_pose_token"])["translation"][:2]
        layers = maps[log["location"]].layers_on_point(x, y)
        assert layers["drivable_area"]
        assert layers["road_segment"]
        assert nusc.get("map", log["map_token"])["mask"].is_on_mask(x, y).all()
    for town in maps.values():
        records = town.get_records_in_patch((0, 0, 440, 440))
        assert all(records[layer] for layer in ("lane", "road_divider", "ped_crossing", "walkway", "stop_line"))
        for token in [row["token"] for row in town.lane][:6] + [row["token"] for row in town.lane_connector][:6]:
            path = np.array(town.discretize_lanes([token], 1.0)[token])
            ends = [town.arcline_path_3[token][0]["start_pose"][:2], town.arcline_path_3[token][-1]["end_pose"][:2]]
            assert np.allclose(path[[0, -1], :2], ends, atol=0.05)


def test_night_is_darker_than_day(nusc: NuScenes) -> None:
    brightness: dict[bool, list[float]] = {True: [], False: []}
    for scene in nusc.scene:
        sample = nusc.get("sample", scene["first_sample_token"])
        image = cv2.imread(nusc.get_sample_data_path(sample["data"]["CAM_FRONT"]))
        brightness["night" in scene["description"]].append(float(image.mean()))
    assert brightness[True]
    assert max(brightness[True]) < 0.6 * min(brightness[False])


def test_splits_are_disjoint_by_log(nusc: NuScenes, world_root: Path) -> None:
    splits = json.loads((world_root / "splits.json").read_text())
    logs = {
        split: {scene["log_token"] for scene in nusc.scene if scene["name"] in names} for split, names in splits.items()
    }
    assert logs["train"]
    assert logs["val"]
    assert not logs["train"] & logs["val"]
    assert sorted(splits["train"] + splits["val"]) == sorted(scene["name"] for scene in nusc.scene)


@pytest.mark.parametrize("scenes", [4, 5, 8, 12, 40])
def test_every_condition_occurs_in_small_worlds(scenes: int) -> None:
    plans = plan_world(WorldConfig(scenes=scenes, seed=1))
    assert {plan.log.split for plan in plans} == {"train", "val"}
    assert len({plan.log.number for plan in plans}) >= 4
    if scenes >= 8:
        assert any(plan.night for plan in plans)
        assert any(plan.rain for plan in plans)
        assert any(not plan.has_can for plan in plans if plan.log.split == "train")


def test_an_interrupted_generation_goes_on_to_the_same_bytes_with_any_number_of_processes(
    small_root: Path, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop_after_two(done: int, total: int) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        generate_world(SMALL, str(tmp_path), processes=1, progress=stop_after_two)
    assert not (tmp_path / "world.json").exists()
    seen: list[int] = []
    generate_world(SMALL, str(tmp_path), processes=2, progress=lambda done, total: seen.append(done))
    assert seen == [2, 3, 4]
    assert digest(tmp_path) == digest(small_root)


def test_tracks_do_not_depend_on_the_image_size(small_root: Path, tmp_path: Path) -> None:
    other = SMALL.model_copy(update={"image_width": 64, "image_height": 36})
    generate_world(other, str(tmp_path), processes=1)
    for table in ("sample_annotation", "ego_pose", "instance", "scene", "sample"):
        name = f"v1.0-trainval/{table}.json"
        assert (tmp_path / name).read_bytes() == (small_root / name).read_bytes()


def test_a_complete_world_is_left_alone(small_root: Path) -> None:
    before = (small_root / "world.json").stat().st_mtime_ns
    generate_world(SMALL, str(small_root))
    assert (small_root / "world.json").stat().st_mtime_ns == before


def test_another_world_is_refused(small_root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"world\.json"):
        generate_world(SMALL.model_copy(update={"seed": 6}), str(small_root))
    (tmp_path / "v1.0-trainval").mkdir()
    with pytest.raises(InputError, match=r"v1\.0-trainval"):
        generate_world(SMALL, str(tmp_path))
