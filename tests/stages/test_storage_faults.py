"""A disk that is full, a bucket that refuses: one sentence, exit code 2, and nothing published half-way."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray.exceptions
import yaml

from sead_ray.config import RunConfig
from sead_ray.errors import InputError, StorageError
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA, SELECTION_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.attempts import Failure
from sead_ray.stages.clip_runner import load_clip
from sead_ray.stages.clip_tasks import load_or_fail
from sead_ray.stages.ray_errors import raise_as_told
from sead_ray.stages.score import pool_tokens, score_pool
from sead_ray.stages.select import scoring_scope
from sead_ray.stages.train import train_model
from sead_ray.storage import Store
from tests.hand_made import make_selection
from tests.stages.refusing_bucket import MESSAGES, refusing_bucket

REPOSITORY = Path(__file__).parents[2]
ROWS = [make_selection(f"clip-{number:03d}", 0, number % 4).to_row() for number in range(5000)]
LARGE = os.urandom(1 << 20)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB: a tmpfs where that may be mounted, else the shell's limit on a file's size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True).returncode
        == 0
    ):
        yield folder
        subprocess.run(["umount", "-l", folder], check=True)
        return
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, limits[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.write_bytes("stage/a.bin", LARGE),
        lambda run: run.create_bytes("stage/a.bin", LARGE),
        lambda run: run.write_table("stage/a.bin", _large_rows(), SELECTION_SCHEMA),
    ],
)
def test_a_full_disk_is_named_and_keeps_what_was_there(small_disk: Path, write: Callable[[Store], Any]) -> None:
    run = Store(str(small_disk))
    run.write_bytes("stage/b.bin", b"whole")
    with pytest.raises(StorageError, match=r"stage/a\.bin cannot be written: (No space left|File too large)") as caught:
        write(run)
    assert "\n" not in str(caught.value)
    assert run.list("stage") == ["b.bin"]
    assert [path.name for path in (small_disk / "stage").iterdir()] == ["b.bin"]  # no unfinished file either
    assert run.read_bytes("stage/b.bin") == b"whole"


def _large_rows() -> Iterator[dict[str, Any]]:
    for row in ROWS:
        yield {**row, "reason": os.urandom(400).hex()}


def test_scoring_onto_a_full_disk_ends_in_a_sentence_and_goes_on_once_there_is_room(
    loop_run: Store, loop_config: RunConfig, small_disk: Path, tmp_path: Path
) -> None:
    """The clips' folder and the model lie elsewhere; the ledger of finished clips fills the disk."""
    if not os.path.ismount(small_disk):
        pytest.skip("a tmpfs may not be mounted here, and Ray's workers do not inherit this process's limits")
    run = Store(str(tmp_path / "run"))
    for folder in (layout.CLIPS, layout.LABELS, layout.selection(0), layout.model(0)):
        shutil.copytree(loop_run.path(folder), run.path(folder))
    (small_disk / "ballast").write_bytes(bytes(250 << 10))
    Path(run.path(layout.score_parts(1))).parent.mkdir(parents=True, exist_ok=True)
    Path(run.path(layout.score_parts(1))).symlink_to(small_disk)
    config = loop_config.model_copy(update={"run_dir": run.root})
    scope = scoring_scope(run, config, 1)
    with pytest.raises(InputError, match=r"score_parts/.* cannot be written: No space left on device\."):
        score_pool(run, config, 1, layout.model(0), **scope)
    assert not run.is_published(layout.scores(1))
    assert not run.exists(layout.QUARANTINE)  # no clip is blamed
    (small_disk / "ballast").unlink()
    score_pool(run, config, 1, layout.model(0), **scope)
    assert run.manifest(layout.scores(1))["n_failed"] == 0


def test_training_onto_a_full_disk_ends_in_a_sentence(
    loop_run: Store, loop_config: RunConfig, small_disk: Path, tmp_path: Path
) -> None:
    if not os.path.ismount(small_disk):
        pytest.skip("a tmpfs may not be mounted here, and Ray's workers do not inherit this process's limits")
    run = Store(str(tmp_path / "run"))
    for folder in (layout.CLIPS, layout.LABELS):
        shutil.copytree(loop_run.path(folder), run.path(folder))
    Path(run.path(layout.train_storage(0))).parent.mkdir(parents=True)
    Path(run.path(layout.train_storage(0))).symlink_to(small_disk)
    train = loop_config.train.model_copy(update={"max_failures": 0, "max_steps": 2})
    config = loop_config.model_copy(update={"run_dir": run.root, "train": train})
    token = pool_tokens(run)[0].as_py()
    with pytest.raises(InputError, match=r"Training round 0 cannot keep its checkpoints: .*No space left on device"):
        train_model(run, config, 0, {token: list(range(4))})
    assert not run.is_published(layout.model(0))


@pytest.mark.parametrize("code", MESSAGES)
def test_a_bucket_that_refuses_ends_a_command_with_code_2(code: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"run_dir": f"s3://{code.lower()}/run", "data": {"root": str(tmp_path)}}))
    with refusing_bucket(code) as url:
        variables = {**os.environ, "AWS_ENDPOINT_URL": url}
        command = [sys.executable, "-m", "jobs.prepare_clips", "--config", str(config)]
        ended = subprocess.run(
            command, cwd=REPOSITORY, env=variables, capture_output=True, text=True, timeout=300, check=False
        )
    assert ended.returncode == 2, ended.stderr
    (sentence,) = [line for line in ended.stderr.splitlines() if f"s3://{code.lower()}/run" in line]
    assert "cannot be reached" in sentence
    assert code in sentence or MESSAGES[code] in sentence
    assert "Traceback" not in ended.stderr


def test_a_bucket_that_gives_nothing_is_no_clips_fault(
    loop_run: Store, loop_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else wrong rights would put the whole pool into quarantine."""
    clip = Clip.from_row(next(loop_run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA)))
    with refusing_bucket("AccessDenied") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(StorageError, match="s3://refusing-images/"):
            load_or_fail(clip, load_clip, "s3://refusing-images/data", loop_config.image, most=2)
    assert isinstance(load_or_fail(clip, load_clip, "/nowhere", loop_config.image, most=2), Failure)


def test_a_full_object_store_is_told_as_one() -> None:
    error = ray.exceptions.RayTaskError("f", "traceback", ray.exceptions.OutOfDiskError("no space"))
    with pytest.raises(StorageError, match="object store is full") as caught:
        raise_as_told(error)
    assert "\n" not in str(caught.value)
