"""Preparation: the same bytes whatever the workers, the place and the deaths on the way; --verify reports all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from jobs.cli import run_job
from jobs.prepare_clips import PrepareJobConfig, job, plan
from sead_ray.config import DataConfig, PrepareConfig, RunConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA
from sead_ray.stages import layout, preparation
from sead_ray.stages.prepare import prepare
from sead_ray.storage import Store

pytestmark = pytest.mark.usefixtures("ray_cluster")

FILES = (layout.CLIPS_FILE, layout.LABELS_FILE)


@pytest.fixture
def world(tiny_world: str, tmp_path: Path) -> Path:
    """A copy of the tiny world by hard links: remove and write anew, never write in place."""
    root = tmp_path / "nuscenes"
    shutil.copytree(tiny_world, root, copy_function=lambda src, dst: Path(dst).hardlink_to(src))
    return root


@pytest.fixture
def handed_out(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many scenes each job handed to workers."""
    counts: list[int] = []
    original = preparation.run_scenes

    def counted(work: Any, arguments: Any, scenes: Any, size: Any) -> Iterator[dict[str, Any]]:
        counts.append(len(scenes))
        return original(work, arguments, scenes, size)

    monkeypatch.setattr(preparation, "run_scenes", counted)
    return counts


def configured(tmp_path: Path, root: str | Path, workers: int = 2) -> RunConfig:
    return RunConfig(
        run_dir=str(tmp_path / "run"), data=DataConfig(root=str(root)), prepare=PrepareConfig(max_workers=workers)
    )


def test_files_hold_what_the_folder_says_and_one_worker_writes_the_same_bytes(
    tiny_run: Store, tiny_world: str, tmp_path: Path
) -> None:
    config = configured(tmp_path, tiny_world, workers=1)
    run = Store(config.run_dir)
    prepare(run, config)
    for file in FILES:
        assert run.read_bytes(file) == tiny_run.read_bytes(file)
    assert run.manifest(layout.CLIPS) == tiny_run.manifest(layout.CLIPS)
    assert not run.exists(layout.PREPARATION)
    folder = NuScenesFolder(config.data)
    scenes = [(token, "pool") for token in folder.scenes("train")] + [(token, "val") for token in folder.scenes("val")]
    clips = list(run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA))
    assert clips == [folder.clip(token, role).to_row() for token, role in scenes]  # type: ignore[arg-type]
    labels = list(run.iter_rows(layout.LABELS_FILE, LABEL_SCHEMA))
    assert json.dumps(labels[:8]) == json.dumps([item.to_row() for item in folder.labels(scenes[0][0])])
    assert [row["clip_token"] for row in labels] == [token for token, _ in scenes for _ in range(8)]


def test_a_killed_job_loses_at_most_the_scenes_under_way(
    tiny_run: Store, tiny_world: str, tmp_path: Path, repository: Path, handed_out: list[int]
) -> None:
    config = configured(tmp_path, tiny_world)
    run = Store(config.run_dir)
    parts = Path(run.path(f"{layout.PREPARATION}/labels"))
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "jobs.prepare_clips", "--data.root", tiny_world, "--run_dir", run.root]
    process = subprocess.Popen(command, cwd=repository, env=environment, start_new_session=True)
    deadline = time.monotonic() + 200
    while len(list(parts.glob("*.parquet"))) < 3:
        assert process.poll() is None, "the job ended before it could be killed"
        assert time.monotonic() < deadline, "the job is stuck"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2)  # Ray's workers, in sessions of their own, notice and end
    assert not run.is_published(layout.LABELS)
    done = len(run.list(f"{layout.PREPARATION}/labels", ".parquet"))
    prepare(run, config)
    assert handed_out == [12 - done]  # the clips were published
    for file in FILES:
        assert run.read_bytes(file) == tiny_run.read_bytes(file)


def test_after_a_fault_was_mended_only_what_it_touches_is_made_again(
    tiny_run: Store, world: Path, tmp_path: Path, handed_out: list[int]
) -> None:
    config = configured(tmp_path, world, workers=1)
    run = Store(config.run_dir)
    table = world / "v1.0-trainval" / "sample.json"
    whole = table.read_text()
    last = NuScenesFolder(config.data).scenes("val")[-1]
    first = NuScenesFolder(config.data).scene_rows[last]["first_sample_token"]
    table.unlink()
    table.write_text(whole.replace(f'"token": "{first}"', '"token": "lost"'))
    with pytest.raises(InputError, match=first):
        prepare(run, config)
    table.write_text(whole)
    broken = sorted((world / "can_bus").glob("*_pose.json"))[0]
    content = broken.read_text()
    broken.unlink()
    with pytest.raises(InputError, match=broken.name.replace("+", r"\+")):
        prepare(run, config)
    done = len(run.list(f"{layout.PREPARATION}/clips", ".parquet"))
    broken.write_text(content)
    prepare(run, config)
    clips, labels = handed_out[-2:]
    assert clips in (12 - done, 11 - done)  # one may have been under way when the job ended
    assert labels == 12
    for file in FILES:
        assert run.read_bytes(file) == tiny_run.read_bytes(file)


def test_verify_reports_every_fault_by_clip_and_publishes_nothing(
    tiny_run: Store, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = list(tiny_run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA))
    missing = clips[0]["frames"][0]["cameras"][0]["key"]
    truncated = clips[0]["frames"][7]["cameras"][5]["key"]
    empty = clips[-1]["frames"][3]["cameras"][2]["key"]
    contents = {key: (world / key).read_bytes() for key in (missing, truncated, empty)}
    for key in contents:
        (world / key).unlink()
    (world / truncated).write_bytes(contents[truncated][: len(contents[truncated]) * 2 // 3])
    (world / empty).write_bytes(b"")
    bare = next(path for path in (world / "can_bus").glob(f"{clips[4]['name']}_pose.json"))
    can = bare.read_text()
    bare.unlink()
    arguments = ["--data.root", str(world), "--run_dir", str(tmp_path / "run"), "--verify"]
    with pytest.raises(SystemExit) as ended:
        run_job("", job, plan, arguments, schema=PrepareJobConfig)
    assert ended.value.code == 2
    run = Store(str(tmp_path / "run"))
    assert run.path(layout.VERIFICATION) in capsys.readouterr().err.splitlines()[-1]
    report = run.read_json(layout.VERIFICATION)
    assert [clip["name"] for clip in report["clips"]] == [clips[index]["name"] for index in (0, 4, 11)]
    assert report["clips"][0]["missing"] == [missing]
    assert [item["key"] for item in report["clips"][0]["broken"]] == [truncated]
    assert bare.name in report["clips"][1]["error"]
    assert [item["key"] for item in report["clips"][2]["broken"]] == [empty]
    assert (report["n_clips"], report["n_missing"], report["n_broken"]) == (12, 1, 2)
    assert not run.is_published(layout.CLIPS)
    (world / truncated).unlink()
    (world / empty).unlink()
    for key, content in contents.items():
        (world / key).write_bytes(content)
    bare.write_text(can)
    run_job("", job, plan, arguments, schema=PrepareJobConfig)
    assert run.read_json(layout.VERIFICATION)["clips"] == []
    assert run.read_bytes(layout.CLIPS_FILE) == tiny_run.read_bytes(layout.CLIPS_FILE)
    run_job("", job, plan, arguments, schema=PrepareJobConfig)  # prepared already: verifies the published clips
    assert "576 images of 12 clips decoded" in capsys.readouterr().err


def test_an_empty_image_is_refused_without_verify(world: Path, tiny_run: Store, tmp_path: Path) -> None:
    row = next(iter(tiny_run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA)))
    key = row["frames"][2]["cameras"][1]["key"]
    (world / key).unlink()
    (world / key).write_bytes(b"")
    config = configured(tmp_path, world)
    with pytest.raises(InputError, match="is empty") as caught:
        prepare(Store(config.run_dir), config)
    assert key in str(caught.value)


def test_from_a_bucket_to_a_bucket_gives_the_same_bytes(tiny_run: Store, s3_world: str, s3_bucket: str) -> None:
    s3, _ = pafs.FileSystem.from_uri(s3_bucket)
    assert s3.get_file_info("sead/nuscenes/splits.json").is_file
    config = RunConfig(run_dir=f"{s3_bucket}/run", data=DataConfig(root=s3_world))
    run = Store(config.run_dir)
    prepare(run, config)
    for file in FILES:
        assert run.read_bytes(file) == tiny_run.read_bytes(file)
    assert run.manifest(layout.CLIPS) == tiny_run.manifest(layout.CLIPS)
