"""A bad clip is recorded with its reason and does not stop the rest; a bad bought clip ends the training by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.model_actor import require_working_device
from sead_ray.stages.progress import FORMAT_VARIABLE
from sead_ray.stages.score import read_scores, score_pool
from sead_ray.stages.select import read_pool
from sead_ray.stages.train import train_model
from sead_ray.storage import Store


@pytest.fixture
def spoilt(loop_run: Store, loop_config: RunConfig, tmp_path: Path) -> tuple[Store, RunConfig, Clip]:
    """A run whose first pool clip has a truncated JPEG, with round 0's model."""
    root = tmp_path / "data"
    shutil.copytree(loop_config.data.root, root, copy_function=lambda src, dst: Path(dst).hardlink_to(src))
    run = Store(str(tmp_path / "run"))
    shutil.copytree(loop_run.path(layout.CLIPS), run.path(layout.CLIPS))
    shutil.copytree(loop_run.path(layout.LABELS), run.path(layout.LABELS))
    shutil.copytree(loop_run.path(layout.model(0)), run.path(layout.model(0)))
    row = next(row for row in run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA) if row["split"] == "pool")
    clip = Clip.from_row(row)
    image = root / clip.frames[3].cameras[2].key
    whole = image.read_bytes()
    image.unlink()  # a hard link: writing would spoil the original
    image.write_bytes(whole[: len(whole) // 2])
    config = loop_config.model_copy(
        update={"run_dir": run.root, "data": loop_config.data.model_copy(update={"root": str(root)})}
    )
    return run, config, clip


def test_a_truncated_image_fails_its_clip_alone(
    spoilt: tuple[Store, RunConfig, Clip], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, config, clip = spoilt
    monkeypatch.setenv(FORMAT_VARIABLE, "json")
    score_pool(run, config, 1, layout.model(0), exclude=set())
    scores = read_scores(run, 1)
    assert len(scores) == 9
    failed = [score for score in scores.values() if score.status != "ok"]
    assert [score.clip_token for score in failed] == [clip.clip_token]
    assert clip.frames[3].cameras[2].key in failed[0].reason
    assert run.manifest(layout.scores(1))["n_failed"] == 1
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if "clip" in line]
    assert (line["clip"], line["round"], line["run"], line["stage"]) == (clip.clip_token, 1, run.root, "score")
    assert failed[0].reason in line["message"]


def test_a_truncated_image_ends_the_training_by_name(spoilt: tuple[Store, RunConfig, Clip]) -> None:
    run, config, clip = spoilt
    with pytest.raises(InputError, match=clip.frames[3].cameras[2].key.replace("+", r"\+")):
        train_model(run, config, 5, {clip.clip_token: list(range(len(clip.frames)))})
    assert not run.is_published(layout.model(5))


def test_a_frame_without_labels_ends_the_training_by_name(
    loop_run: Store, loop_config: RunConfig, tmp_path: Path
) -> None:
    run = Store(str(tmp_path / "run"))
    shutil.copytree(loop_run.path(layout.CLIPS), run.path(layout.CLIPS))
    from sead_ray.schemas import LABEL_SCHEMA

    run.write_table(layout.LABELS_FILE, [], LABEL_SCHEMA)
    config = loop_config.model_copy(update={"run_dir": run.root})
    pool = read_pool(run, config)
    token = pool.clips[0].clip_token
    with pytest.raises(InputError, match="no labels"):
        train_model(run, config, 0, {token: [0, 1]})


def test_a_broken_device_is_not_taken_for_a_clips_fault() -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    require_working_device("cpu", error)
    with pytest.raises(InputError, match=r"meta failed \(CUDA error"):
        require_working_device("meta", error)  # computes nothing: stands for a GPU that is gone
