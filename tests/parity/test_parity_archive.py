"""The archives are whole, their weights follow from the rule, and our networks have upstream's tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sead_ray.model.presets import PRESETS
from sead_ray.model.vad import VAD
from sead_ray.model.weights import upstream_name
from sead_ray.nuscenes.images import MEAN_RGB, STD_RGB
from tests.parity.archive import ARCHIVES, SMALL_FOLDER, Archive

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


@by_archive
def test_normalisation_is_upstreams(archive: Archive) -> None:
    assert archive.inputs["mean"].tolist() == np.float32(MEAN_RGB).tolist()
    assert archive.inputs["std"].tolist() == np.float32(STD_RGB).tolist()
