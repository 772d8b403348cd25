"""Each fault of a log is one sentence that names the log, file or camera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sead_ray.config import DataConfig
from sead_ray.errors import InputError
from sead_ray.py123d.arrow_log import ArrowLog
from sead_ray.py123d.clips import LogClips
from sead_ray.py123d.folder import Py123dFolder
from sead_ray.py123d.images import require_images
from sead_ray.py123d.labels import log_labels
from sead_ray.storage import Store
from tests.py123d.scene_writer import edited

LEFT = "logs/nuplan_train/left"


def read_all(root: Path, name: str = "left", **settings: Any) -> None:
    data = DataConfig(root=str(root), format="py123d", **settings)
    clips = LogClips(ArrowLog(Store(data.root), f"logs/nuplan_train/{name}"), data)
    require_images(clips.log.store, clips.clips("pool"))
    log_labels(clips, None)


FAULTS: dict[str, tuple[str, Callable[[dict[str, Any], list[dict[str, Any]]], Any], str]] = {
    "NaN pose": (
        "ego_state_se3",
        lambda _, rows: rows[3]["ego_state_se3.imu_se3"].__setitem__(0, float("nan")),
        "no pose at",
    ),
    "no rotation": (
        "ego_state_se3",
        lambda _, rows: rows[3].update({"ego_state_se3.imu_se3": [0.0] * 7}),
        "no pose at",
    ),
    "time backwards": ("sync", lambda _, rows: rows[4].update({"sync.timestamp_us": 5}), "Time goes backwards"),
    "one state": ("ego_state_se3", lambda _, rows: rows.__delitem__(slice(1, None)), "too few"),
    "fisheye": ("camera.pcam_f0", lambda facts, _: facts.update(camera_model="fisheye_mei"), "pinholes"),
    "no intrinsics": ("camera.pcam_b0", lambda facts, _: facts.update(intrinsics=None), "has no intrinsics"),
    "another size": ("camera.pcam_r0", lambda facts, _: facts.update(width=320), "six alike"),
    "empty image": (
        "camera.pcam_l1",
        lambda _, rows: rows[2].update({"camera.pcam_l1.data": b""}),
        "arrow#2 .* is empty",
    ),
    "lost images": ("camera.pcam_l1", lambda _, rows: rows.__delitem__(slice(2, None)), "asks for row 8 .*which has 2"),
    "camera pose": (
        "camera.pcam_l1",
        lambda _, rows: rows[2].update({"camera.pcam_l1.camera_to_global_se3": [0.0] * 7}),
        "camera_to_global_se3 of .*pcam_l1",
    ),
    "unknown label": (
        "box_detections_se3",
        lambda _, rows: rows[1]["box_detections_se3.label"].__setitem__(0, 99),
        "track car .* unknown label 99",
    ),
    "unknown data set": (
        "box_detections_se3",
        lambda facts, _: facts.update(box_detection_label_class="x.Strange"),
        "labels of 'Strange'",
    ),
    "bad box": (
        "box_detections_se3",
        lambda _, rows: rows[1]["box_detections_se3.bounding_box_se3"][0].__setitem__(7, -1.0),
        "size that is not positive",
    ),
    "one track twice": (
        "box_detections_se3",
        lambda _, rows: rows[1]["box_detections_se3.track_token"].__setitem__(1, "car"),
        "there twice",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_named(py123d_copy: Path, fault: str) -> None:
    modality, change, sentence = FAULTS[fault]
    edited(py123d_copy / LEFT / f"{modality}.arrow", change)
    with pytest.raises(InputError, match=sentence):
        read_all(py123d_copy)


@pytest.mark.parametrize("modality", ["ego_state_se3", "camera.pcam_b0", "box_detections_se3"])
def test_a_missing_file_is_named(py123d_copy: Path, modality: str) -> None:
    (py123d_copy / LEFT / f"{modality}.arrow").unlink()
    with pytest.raises(InputError, match=modality.rpartition(".")[2]):
        read_all(py123d_copy)


def test_a_file_of_another_kind_is_named(py123d_copy: Path) -> None:
    (py123d_copy / LEFT / "sync.arrow").write_bytes(b"PAR1 no arrow")
    with pytest.raises(InputError, match=r"left/sync\.arrow is not a readable Arrow file"):
        read_all(py123d_copy)


def test_missing_and_empty_images_beside_the_logs_are_named(py123d_copy: Path) -> None:
    image = py123d_copy / "sensors/nuplan/right/b0/0010.jpg"
    image.write_bytes(b"")
    with pytest.raises(InputError, match=r"right/b0/0010\.jpg of frame .* is empty"):
        read_all(py123d_copy, "right")
    image.unlink()
    with pytest.raises(InputError, match=r"0010\.jpg of frame .* does not exist: link .* at .*/sensors/nuplan\."):
        read_all(py123d_copy, "right")


def test_cameras_are_chosen_by_name(py123d_copy: Path) -> None:
    read_all(py123d_copy, cameras={"CAM_BACK_LEFT": "pcam_l2", "CAM_BACK_RIGHT": "camera.pcam_r2"})
    for cameras, sentence in (
        ({"CAM_REAR": "pcam_b0"}, "'CAM_REAR', which is none of"),
        ({"CAM_BACK": "pcam_l1"}, "one camera two places"),
        ({"CAM_BACK": "pcam_x9"}, "no camera pcam_x9 to stand for CAM_BACK, only"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_all(py123d_copy, cameras=cameras)


def test_a_camera_that_sees_at_other_times_leaves_no_clip(py123d_copy: Path) -> None:
    def later(_: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["camera.pcam_b0.timestamp_us"] += 200_000

    edited(py123d_copy / LEFT / "camera.pcam_b0.arrow", later)
    with pytest.raises(InputError, match=r"Log left yields no clip: of its 9 rows 0 .*camera\.pcam_b0, the rarest"):
        read_all(py123d_copy)


def test_folders_and_splits_are_named(py123d_copy: Path) -> None:
    def folder(**settings: Any) -> Py123dFolder:
        return Py123dFolder(DataConfig(root=str(py123d_copy), format="py123d", **settings))

    with pytest.raises(InputError, match=r"logs holds no log"):
        Py123dFolder(DataConfig(root=str(py123d_copy / "maps"), format="py123d"))
    with pytest.raises(InputError, match=r"'test' is not a folder below .*nuplan_train, nuplan_val"):
        folder(pool_split="test").pool_logs()
    with pytest.raises(InputError, match="Log 'none'"):
        folder(pool_split=["none"]).pool_logs()
    with pytest.raises(InputError, match="Log val is in both"):
        folder(pool_split=["val", "left"]).check_logs_disjoint()
    (py123d_copy / LEFT).rename(py123d_copy / "logs/nuplan_val/right")
    with pytest.raises(InputError, match="Log right is in logs/nuplan_train/right and in"):
        folder(pool_split=["right"]).pool_logs()
