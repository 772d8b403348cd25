"""What only a full archive says: checksums, counts, whole lists. Not collected without one (see conftest)."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest
import torch

from sead_ray.model.decode import decode_boxes, decode_lines
from sead_ray.model.presets import PRESETS
from sead_ray.model.vad import VAD
from tests.parity.archive import FULL_ARCHIVES, Archive
from tests.parity.frame_run import frame_batch
from tests.parity.runs import frame_count, frames, vad

by_archive = pytest.mark.parametrize("archive", FULL_ARCHIVES, ids=lambda archive: archive.label)


@by_archive
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


@pytest.mark.parametrize("preset", ["vad_tiny", "vad_base"])
@by_archive
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
def test_normalised_images_are_those_that_upstream_got(archive: Archive) -> None:
    expected = json.loads(archive.path("checksums.json").read_text())["normalised_images"]
    images = torch.cat([frame_batch(archive.inputs, index).images for index in range(frame_count(archive))]).numpy()
    assert list(images.shape) == expected["shape"]
    assert float(images.astype(np.float64).sum()) == pytest.approx(expected["sum_float64"], rel=1e-9)
    assert hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest() == expected["sha256"]


@by_archive
def test_losses_json_says_the_same(archive: Archive) -> None:
    names = archive.array("losses.npz", "loss_names").tolist()
    values = dict(zip(names, archive.array("losses.npz", "loss_values").tolist(), strict=True))
    assert json.loads(archive.path("losses.json").read_text()) == pytest.approx(values, rel=1e-6)


@by_archive
def test_as_many_boxes_and_lines_are_decoded(archive: Archive) -> None:
    output = frames(archive)[f"frame{frame_count(archive) - 1}"].output
    assert len(decode_boxes(output)[0].scores) == len(archive.array("decoded.npz", "scores_3d"))
    lines = decode_lines(output, vad(archive).size.pc_range)[0]
    assert len(lines.scores) == len(archive.array("decoded.npz", "map_scores_3d"))
