"""The two commands: what they print, exit codes, and that a refused file leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from jobs import export_checkpoint, import_checkpoint
from jobs.cli import run_job
from sead_ray.model.presets import sized
from sead_ray.model.vad import VAD
from sead_ray.model.weights import upstream_names

OVERRIDES = {
    "embed_dims": 32,
    "ffn_dims": 64,
    "heads": 4,
    "bev_h": 20,
    "bev_w": 10,
    "backbone_depth": 18,
    "backbone_channels": 8,
}
SIZE = ["--model.overrides", json.dumps(OVERRIDES)]


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as upstream would save it, of a small VAD-Base."""
    own = VAD(sized("vad_base", OVERRIDES), pretrained_backbone=True).state_dict()
    path = tmp_path_factory.mktemp("upstream") / "VAD_base.pth"
    torch.save({"state_dict": {name: own[key] for key, name in upstream_names(own).items()}}, path)
    return path


def run(module: ModuleType, schema: Any, *argv: str) -> None:
    run_job("", module.job, module.plan, list(argv), schema=schema, prog="job")


def run_import(*argv: str) -> None:
    run(import_checkpoint, import_checkpoint.ImportConfig, *argv)


def run_export(*argv: str) -> None:
    run(export_checkpoint, export_checkpoint.ExportConfig, *argv)


def refused(capsys: pytest.CaptureFixture[str], command: Callable[..., None], *argv: str) -> str:
    with pytest.raises(SystemExit) as ended:
        command(*argv)
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_import_then_export(upstream: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, back = tmp_path / "model", tmp_path / "back.pth"
    arguments = ["--checkpoint", str(upstream), "--model_dir", str(model), *SIZE]
    run_import(*arguments, "--dry-run")
    assert "(vad_base, 864 tensors, images 1280 wide)" in capsys.readouterr().out
    assert not model.exists()
    run_import(*arguments, "--model.preset", "vad_base")
    card = json.loads((model / "model.json").read_text())
    assert card["model_version"] in capsys.readouterr().out
    assert card["info"]["image"] == {"width": 1280, "decode": "full"}
    assert sorted(path.name for path in model.iterdir()) == ["model.json", "weights.safetensors"]
    run_export("--model_dir", str(model), "--checkpoint", str(back), "--dry-run")
    assert not back.exists()
    run_export("--model_dir", str(model), "--checkpoint", str(back))
    assert "must say the same of: embed_dims 32" in capsys.readouterr().out
    first, second = (torch.load(path, weights_only=True)["state_dict"] for path in (upstream, back))
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_refusals_write_nothing(upstream: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    cut = tmp_path / "cut.pth"
    cut.write_bytes(upstream.read_bytes()[:-1000])
    to = ["--model_dir", str(model), *SIZE]
    assert "cut.pth is truncated" in refused(capsys, run_import, "--checkpoint", str(cut), *to)
    wrong = refused(capsys, run_import, "--checkpoint", str(upstream), *to, "--model.preset", "vad_tiny")
    assert "set --model.preset vad_base" in wrong
    reduced = refused(capsys, run_import, "--checkpoint", str(upstream), *to, "--image.decode", "dct")
    assert "image.decode full" in reduced
    assert "--checkpoint is missing" in refused(capsys, run_import, *to)
    assert "--model_dir is missing" in refused(capsys, run_import, "--checkpoint", str(upstream))
    out = str(tmp_path / "out.pth")
    assert "model.json does not exist" in refused(capsys, run_export, "--model_dir", str(model), "--checkpoint", out)
    assert [path.name for path in tmp_path.iterdir()] == ["cut.pth"]
