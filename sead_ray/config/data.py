"""Settings of the data set, of the embedded one, and of its preparation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sead_ray.config.schema import Labels, NoSplit, Resources, Schema, Split


class DataConfig(Schema):
    """A data set and how it is divided."""

    format: Literal["nuscenes", "py123d"] = "nuscenes"
    """nuscenes: tables and images as they come; py123d: Arrow logs that py123d made of nuPlan, PandaSet, …"""
    root: str = "data/nuscenes"
    """Folder (or s3://, gs://) that holds the version folder, samples/, maps/ and can_bus/; of py123d logs/, maps/ and
    sensors/."""
    version: str = "v1.0-trainval"
    """Name of the folder of tables below `root`."""
    pool_split: Split = "train"
    """Scenes of the unlabeled pool (and of what is selected from it, the training set): the name of a split, the path
    of a .json or .txt file of scene names, or such a list."""
    val_split: NoSplit = "val"
    """Scenes on which planning is evaluated, named likewise; null: nothing is evaluated (v1.0-test)."""
    can_bus: Literal["auto", "off"] = "auto"
    """auto: CAN messages where a scene has them, ego poses elsewhere; off: ego poses for all."""
    allow_shared_logs: bool = False
    """Admit a pool and a val split that share a log."""
    overtake_frames: int = Field(default=3, ge=1)
    """Frames of both left and right command that make a clip an overtake; of one only, a turn (ActiveAD's tau).

    Neither paper prints it. 3 is the largest value at which one brisk lane change (3.5 m within 4 s) is still seen:
    it gives three frames of each side."""
    cameras: dict[str, str] = {}
    """py123d: which of its cameras stands for one of nuScenes' ({"CAM_BACK": "pcam_l2"}), where not as usual."""
    clip_frames: int = Field(default=40, ge=2)
    """py123d: key frames (two a second) of a clip at most; longer logs are cut."""


class WorldConfig(Schema):
    """The embedded data set (`sead_ray.synthetic`); only used where `generate` is on."""

    generate: bool = False
    """Generate the world at `data.root` before the run where it is not there yet."""
    scenes: int = Field(default=50, ge=4)
    """Of pool and val together."""
    frames: int = Field(default=40, ge=8)
    """Key frames a scene, 2 a second; 40 as in nuScenes."""
    image_width: int = Field(default=400, ge=64)
    """Of all six cameras, in pixels."""
    image_height: int = Field(default=225, ge=36)
    """In pixels."""
    val_share: float = Field(default=0.2, gt=0, lt=1)
    """Of the scenes."""
    seed: int = 0
    """The same seed and sizes give the same bytes."""


class PrepareConfig(Schema):
    """How many scenes are prepared at a time; changes nothing in what comes out."""

    max_workers: int | None = Field(default=None, ge=1)
    """None: one for each CPU of the cluster."""
    cpus_per_worker: float = Field(default=0.5, gt=0)
    """Ray's share of a core for a scene."""
    no_progress_timeout_s: float = Field(default=600.0, gt=0)
    """Preparation ends where no scene is finished for so long; nodes that have to start first count, too."""
    labels: Labels = {}
    """Only on nodes with these labels, as Ray's label selectors: value, !value, in(a, b), !in(a, b)."""
    resources: Resources = {}
    """Only on nodes with these custom resources; so much of them is taken by each scene."""


class LabelConfig(Schema):
    """Where annotations come from."""

    mode: Literal["oracle", "wait"] = "oracle"
    """oracle: the data set's own; wait: stop after writing a label request, go on when `delivery` holds them."""
    delivery: str | None = None
    """Folder in which delivered label files (Parquet, labels schema) appear; default <run>/labels_in."""
    context_frames: int = Field(default=2, ge=0)
    """Neighbours on either side of each bought run that annotators are shown; labels of them are not kept."""
