"""Scored clips join the pool: once, never from val, and the next round takes them up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sead_ray.client import ScoringClient, clip_part, clip_request
from sead_ray.config import DataConfig, ImageConfig, IntakeConfig, RunConfig, ServeConfig
from sead_ray.errors import InputError, LabelsPending
from sead_ray.nuscenes.commands import behaviour_of
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import load_clip
from sead_ray.stages.intake import Intake
from sead_ray.stages.label_store import require_delivery, write_request
from sead_ray.stages.rounds import claim_config
from sead_ray.stages.select import read_pool
from sead_ray.stages.take_up import is_pool_complete, take_up
from sead_ray.storage import Store
from serve.api import build_api
from serve.models import OneModel
from serve.scorer import LocalScorer


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(
        run_dir=str(tmp_path / "run"), data=DataConfig(root=str(tmp_path / "data")), image=ImageConfig(width=160)
    )


@pytest.fixture
def run(config: RunConfig, clip: Clip) -> Store:
    """One clip in the pool, one in val."""
    run = Store(config.run_dir)
    claim_config(run, config)
    own = replace(clip, clip_token="pool-1", log_token="log-pool")
    val = replace(clip, clip_token="val-1", log_token="log-val", split="val")
    run.write_table(layout.CLIPS_FILE, [own.to_row(), val.to_row()], CLIP_SCHEMA)
    facts = {"pool_clips": 1, "pool_frames": 4, "val_clips": 1, "val_frames": 4}
    run.publish(layout.CLIPS, facts)
    run.write_table(layout.LABELS_FILE, [], LABEL_SCHEMA)
    return run


@pytest.fixture(scope="module")
def scorer(model_dir: str) -> LocalScorer:
    return LocalScorer(model_dir, "cpu")


@pytest.fixture
def http(run: Store, scorer: LocalScorer) -> Iterator[TestClient]:
    limits = ServeConfig(run_dir=run.root, intake=IntakeConfig(enabled=True))
    with TestClient(build_api(OneModel(scorer), limits)) as http:
        yield http


def post(http: TestClient, clip: Clip, data_root: str, key: str = "", query: str = "", **changes: Any) -> Any:
    body, files = clip_request(clip, data_root)
    body = {name: value for name, value in {**body, **changes}.items() if value is not None}
    headers = {"Idempotency-Key": key} if key else {}
    return http.post(f"/v1/score{query}", files=[clip_part(body), *files], headers=headers)


def rows(run: Store) -> list[dict[str, Any]]:
    return list(run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA))


def test_a_scored_clip_joins_the_pool_of_the_next_round(
    http: TestClient, run: Store, config: RunConfig, clip: Clip, data_root: str
):
    words = "Rainy night at a junction"
    response = post(http, clip, data_root, clip_token="van-7", log_token="log-7", description=words)
    assert response.json()["intake"] == "stored"
    assert len(rows(run)) == 2  # nothing changes under a round's feet
    (name,) = run.list(layout.INTAKE_SCORES)
    kept = run.read_json(f"{layout.INTAKE_SCORES}/{name}")
    assert kept["clip_token"] == "van-7"
    assert {**kept["answer"], "intake": "stored"} == response.json()  # for people to look at
    assert not is_pool_complete(run)
    assert take_up(run, 1) == 1
    assert is_pool_complete(run)
    assert take_up(run, 1) == 0
    (row,) = [row for row in rows(run) if row["clip_token"] == "van-7"]
    came = Clip.from_row(row)
    assert (came.split, came.log_token, came.is_night, came.is_rainy) == ("pool", "log-7", True, True)
    assert came.behaviour == behaviour_of([frame.command for frame in clip.frames], config.data.overtake_frames)
    assert [frame.command for frame in came.frames] == [frame.command for frame in clip.frames]
    assert came.yaw_sum_rad == pytest.approx(0.6)
    pool = read_pool(run, config)
    assert pool.n_clips == 2
    assert run.manifest(layout.CLIPS)["pool_clips"] == 2
    assert len(set(pool.frame_tokens["van-7"])) == 4
    images = load_clip(came, config.data.root, config.image).images
    assert (images == load_clip(clip, data_root, config.image).images).all()  # the pool sees what the service saw
    for mine, sent in zip(came.frames, clip.frames):
        assert mine.can_bus == pytest.approx(sent.can_bus)


class TestNothingTwice:
    def test_sent_again(self, http: TestClient, run: Store, clip: Clip, data_root: str):
        """Lost answers, other names, other keys: the same content is the same clip."""
        seen = [
            post(http, clip, data_root, key="a", clip_token="van-7").json()["intake"],
            post(http, clip, data_root, key="a", clip_token="van-7").json()["intake"],
            post(http, clip, data_root, key="b", clip_token="van-8").json()["intake"],
            post(http, clip, data_root, clip_token=None).json()["intake"],
        ]
        assert seen == ["stored", "known", "known", "known"]
        assert take_up(run, 0) == 1
        assert post(http, clip, data_root, clip_token="van-7").json()["intake"] == "known"
        assert take_up(run, 0) == 0

    def test_a_key_or_token_of_another_clip(self, http: TestClient, clip: Clip, clip_without_can: Clip, data_root: str):
        assert post(http, clip, data_root, key="a", clip_token="van-7").json()["intake"] == "stored"
        response = post(http, clip_without_can, data_root, key="a", clip_token="van-9")
        assert (response.status_code, response.json()["field"]) == (409, "Idempotency-Key")
        response = post(http, clip_without_can, data_root, clip_token="van-7")
        assert (response.status_code, response.json()["field"]) == (409, "clip_token")
        assert post(http, clip_without_can, data_root, key="b", clip_token="van-10").json()["intake"] == "stored"

    def test_the_data_sets_own(self, http: TestClient, run: Store, clip: Clip, data_root: str):
        assert post(http, clip, data_root, clip_token="pool-1").json()["intake"] == "known"
        assert take_up(run, 0) == 0


def test_the_clips_of_a_job(http: TestClient, run: Store, clip: Clip, clip_without_can: Clip, data_root: str):
    """Each as if it had come alone; one of val, and none is taken on."""
    mine = [
        replace(clip, clip_token="van-1", log_token="log-7"),
        replace(clip_without_can, clip_token="van-2", log_token="log-7"),
        replace(clip, clip_token="van-3", log_token=""),
    ]
    client = ScoringClient("", http=http)
    val = replace(clip, clip_token="van-4", log_token="log-val")
    with pytest.raises(InputError, match=r"belongs to val.*clips\.1\.log_token"):
        client.submit([mine[0], val], data_root)
    for expected in (["stored", "stored", "no_log"], ["known", "known", "no_log"]):
        done = client.wait(client.submit(mine, data_root, key=None).job_id, poll_s=0.02)
        assert [item.answer and item.answer.intake for item in done.clips] == expected
    response = post(http, clip, data_root, clip_token="van-1", log_token="log-7")
    assert response.json()["intake"] == "known"
    assert take_up(run, 1) == 2


def test_val_is_refused(http: TestClient, run: Store, clip: Clip, data_root: str):
    response = post(http, clip, data_root, log_token="log-val")
    assert (response.status_code, response.json()["field"]) == (422, "log_token")
    response = post(http, clip, data_root, clip_token="val-1", log_token="other")
    assert (response.status_code, response.json()["field"]) == (422, "clip_token")
    assert post(http, clip, data_root, log_token=None).json()["intake"] == "no_log"
    only_scored = post(http, clip, data_root, query="?intake=false", log_token="log-val").json()
    assert (only_scored["intake"], only_scored["status"]) == (None, "ok")
    assert take_up(run, 0) == 0
    assert not Path(run.path(layout.INTAKE)).exists()


def test_a_clip_without_a_score_is_not_kept(http: TestClient, run: Store, clip: Clip, data_root: str):
    frames = [replace(frame, timestamp_us=10**6 + 5 * 10**6 * t) for t, frame in enumerate(clip.frames)]
    slow = replace(clip, frames=tuple(frames))
    assert post(http, slow, data_root).json()["intake"] == "not_scored"
    assert take_up(run, 0) == 0


@pytest.mark.parametrize("begun", ["selection", "scores", "parts"])
def test_a_round_that_has_begun_keeps_its_pool(http: TestClient, run: Store, clip: Clip, data_root: str, begun: str):
    post(http, clip, data_root, clip_token="van-7")
    if begun == "parts":
        run.write_bytes(f"{layout.score_parts(1)}/v/part.parquet", b"")
    else:
        run.publish(layout.selection(1) if begun == "selection" else layout.scores(1), {})
    assert take_up(run, 1) == 0
    assert take_up(run, 2) == 1


def test_a_take_up_that_broke_off_is_completed(http: TestClient, run: Store, clip: Clip, data_root: str):
    post(http, clip, data_root, clip_token="van-7")
    facts = run.manifest(layout.CLIPS)
    take_up(run, 0)
    run.publish(
        layout.CLIPS, {name: value for name, value in facts.items() if name != "files"}, anew=True
    )  # as before it
    assert take_up(run, 0) == 0
    assert run.manifest(layout.CLIPS)["pool_clips"] == 2
    assert len(rows(run)) == 3


def test_an_oracle_waits_for_labels_of_what_came_in(
    http: TestClient, run: Store, config: RunConfig, clip: Clip, data_root: str
):
    post(http, clip, data_root, clip_token="van-7")
    take_up(run, 0)
    write_request(run, config, 0, {"pool-1": ["sample-0"]})
    require_delivery(run, config, 0)
    write_request(run, config, 0, {"pool-1": ["sample-0"], "van-7": ["van-7-001"]})
    with pytest.raises(LabelsPending):
        require_delivery(run, config, 0)
    label = {"schema_version": 3, "frame_token": "van-7-001", "clip_token": "van-7", "timestamp_us": 0}
    delivered = [{**label, "annotations": [], "map_vectors": []}]
    run.write_table(f"{layout.LABELS_IN}/van.parquet", delivered, LABEL_SCHEMA)
    require_delivery(run, config, 0)


def test_mistakes_of_the_operator(run: Store, scorer: LocalScorer, tmp_path: Path):
    with pytest.raises(InputError, match="prepared clips"):
        Intake(Store(str(tmp_path / "nothing")))
    with pytest.raises(InputError, match="must lie below the run's data root"):
        Intake(run, str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match=r"intake\.enabled needs run_dir"):
        build_api(OneModel(scorer), ServeConfig(model_dir="x", intake=IntakeConfig(enabled=True)))


def test_the_typed_client_sends_the_log(http: TestClient, run: Store, clip: Clip, data_root: str):
    client = ScoringClient("", http=http)
    assert client.score(replace(clip, log_token="log-7"), data_root, key="k").intake == "stored"
    with pytest.raises(InputError, match="belongs to val"):
        client.score(replace(clip, log_token="log-val"), data_root)
