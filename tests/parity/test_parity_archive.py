"""The archives are whole, their weights follow from the rule, and our networks have upstream's tensors."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest
import torch

from sead_ray.model.presets import PRESETS
from sead_ray.model.vad import VAD
from sead_ray.model.weights import upstream_name
from sead_ray.nuscenes.images import MEAN_RGB, STD_RGB
from tests.parity.archive import ARCHIVES, SMALL_FOLDER, Archive, FullArchive
from tests.parity.frame_run import frame_batch
from tests.parity.runs import frame_count

FULL = [archive for archive in ARCHIVES if isinstance(archive, FullArchive)]
PRESET_NAMES = ("vad_tiny", "vad_base")
by_archive = pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.label)


@pytest.mark.parametrize(
    ("archive", "file"),
    [pytest.param(archive, file, id=f"{archive.label}-{file}") for archive in ARCHIVES for file in archive.files],
)
def test_the_archive_has_every_file(archive: Archive, file: str) -> None:
    assert archive.path(file).stat().st_size > 0


def test_the_small_archive_is_small() -> None:
    assert sum(path.stat().st_size for path in SMALL_FOLDER.iterdir()) < 2**20


@pytest.mark.parametrize("preset", PRESET_NAMES)
@by_archive
def test_state_dict_has_upstreams_keys_shapes_and_types(archive: Archive, preset: str) -> None:
    with torch.device("meta"):
        model = VAD(PRESETS[preset], pretrained_backbone=True)
    parameters = {name: value.requires_grad for name, value in model.named_parameters()}
    kinds = {True: "param", False: "param_frozen", None: "buffer"}
    ours = {
        upstream_name(name): (tuple(value.shape), str(value.dtype).removeprefix("torch."), kinds[parameters.get(name)])
        for name, value in model.state_dict().items()
    }
    upstream = {key.name: (key.shape, key.dtype, key.kind) for key in archive.keys(preset)}
    assert len(upstream) == len(archive.keys(preset))
    differing = [name for name in sorted(ours.keys() | upstream.keys()) if ours.get(name) != upstream.get(name)]
    assert differing == []


@pytest.mark.parametrize("archive", FULL, ids=lambda archive: archive.label)
def test_parameter_counts_are_upstreams(archive: Archive) -> None:
    configurations = json.loads(archive.path("params.json").read_text())
    counted = {name: value for name, value in configurations.items() if re.fullmatch(r"VAD_(tiny|base)_\w+", name)}
    counted = {name: value for name, value in counted.items() if isinstance(value, dict) and "params" in value}
    assert {name.split("_")[1] for name in counted} == {"tiny", "base"}
    for name, expected in counted.items():
        with torch.device("meta"):
            model = VAD(PRESETS[f"vad_{name.split('_')[1]}"], pretrained_backbone=True)
        counts = {
            "keys": len(model.state_dict()),
            "params": sum(p.numel() for p in model.parameters()),
            "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "buffers": sum(b.numel() for b in model.buffers()),
            "backbone": sum(p.numel() for p in model.backbone.parameters()),
            "neck": sum(p.numel() for p in model.neck.parameters()),
        }
        counts["head"] = counts["params"] - counts["backbone"] - counts["neck"]
        assert counts == expected, name


@pytest.mark.parametrize("preset", PRESET_NAMES)
@pytest.mark.parametrize("archive", FULL, ids=lambda archive: archive.label)
def test_weights_by_rule_are_those_that_upstream_ran_with(archive: Archive, preset: str) -> None:
    expected = json.loads(archive.path("checksums.json").read_text())[preset.removeprefix("vad_")]
    digest, total = hashlib.sha256(), 0.0
    for key in sorted(archive.keys(preset), key=lambda key: key.name):
        value = archive.tensor(key)
        digest.update(key.name.encode())
        digest.update(value.tobytes())
        total += float(value.astype(np.float64).sum())
    assert total == pytest.approx(expected["sum_float64"], rel=1e-9)
    assert digest.hexdigest() == expected["sha256"]


@by_archive
def test_normalisation_is_upstreams(archive: Archive) -> None:
    assert archive.inputs["mean"].tolist() == np.float32(MEAN_RGB).tolist()
    assert archive.inputs["std"].tolist() == np.float32(STD_RGB).tolist()


@pytest.mark.parametrize("archive", FULL, ids=lambda archive: archive.label)
def test_normalised_images_are_those_that_upstream_got(archive: Archive) -> None:
    expected = json.loads(archive.path("checksums.json").read_text())["normalised_images"]
    images = torch.cat([frame_batch(archive.inputs, index).images for index in range(frame_count(archive))]).numpy()
    assert list(images.shape) == expected["shape"]
    assert float(images.astype(np.float64).sum()) == pytest.approx(expected["sum_float64"], rel=1e-9)
    assert hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest() == expected["sha256"]
