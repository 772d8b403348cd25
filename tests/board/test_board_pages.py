from __future__ import annotations

import json
import re
import shutil
import socket

import pytest
from starlette.testclient import TestClient

from sead_ray.config import RunConfig
from sead_ray.report.read import clips_of
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.lock import driver_lock
from sead_ray.stages.run_state import run_state
from sead_ray.storage import Store


def test_every_run_is_listed_with_what_it_came_to(board: TestClient):
    text = board.get("/").text
    assert re.findall(r'<th scope="row"><a href="([^"]+)">([^<]+)</a>', text) == [
        ("/runs/demo", "demo"),
        ("/runs/group--other", "group/other"),
    ]
    assert "finished" in text
    assert "stopped" in text
    assert "0.48" in text  # the last round's L2


def test_a_run_shows_its_rounds_models_and_a_report(board: TestClient):
    text = board.get("/runs/demo").text
    assert "model-2" in text
    assert "10 of 12 stages" not in text
    assert "12 of 12 stages are done" in text
    report = board.get("/runs/demo/report")
    assert "Active-learning run demo" in report.text
    assert "script-src" not in report.headers["content-security-policy"]  # the page's own policy names its script
    assert 'data-board="/runs/demo/clips/"' in report.text


def test_the_report_is_rendered_again_once_a_stage_is_published(board: TestClient, runs: Store):
    assert "Clips of round 1" in board.get("/runs/group--other/report").text
    runs.below("group/other").remove("rounds/01/selection/manifest.json")
    assert "Clips of round 1" not in board.get("/runs/group--other/report").text


def test_a_clip_has_a_page_whether_it_was_bought_or_not(board: TestClient):
    bought, left = board.get("/runs/demo/clips/clip02").text, board.get("/runs/demo/clips/clip08").text
    assert "largest shift 0" in bought
    assert "✓ bought" in bought.partition("<article")[2]
    assert "Not bought; as round 2 saw it" in left
    assert left.count('class="trace"') == 1


NOT_THERE = (
    *("/nope", "/runs/nope", "/runs/%2e%2e%2f%2e%2e", "/compare?first=nope", "/static/..%2fapp.py"),
    *("/runs/demo/clips/nope", "/runs/demo/clips/..%2f..%2fetc%2fpasswd"),
    *("/runs/demo/fleet/..%2fx/0.jpg", "/runs/demo/fleet/ab/-1.jpg", f"/runs/demo/fleet/{'a' * 32}/0.jpg"),
)


@pytest.mark.parametrize("path", NOT_THERE)
def test_what_is_not_there_is_404_and_no_path_leads_out(board: TestClient, path: str):
    answer = board.get(path)
    assert answer.status_code == 404
    assert "Traceback" not in answer.text


def test_pages_come_with_headers_that_keep_other_sites_out(board: TestClient):
    for path in ("/", "/nope", "/runs/demo"):
        headers = board.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_hostile_names_are_text(runs: Store):
    from tests.board.conftest import client_of

    attack = "<img src=x onerror=alert(1)>"
    run = runs.below("demo")
    config = run.read_json("config.json")
    run.write_json("config.json", {**config, "notice": attack})
    shutil.copytree(run.root, runs.path(attack.replace("/", "")))
    board = client_of(runs)
    for path in ("/", "/runs/demo", "/compare", "/runs/demo/report"):
        assert "<img src=x" not in board.get(path).text
    assert "&lt;img src=x onerror=alert(1)&gt;" in board.get("/").text


def test_a_damaged_run_leaves_the_others_as_they_are(board: TestClient, runs: Store):
    runs.below("group/other").write_bytes("config.json", b"{")
    text = board.get("/").text
    assert "is not valid JSON" in text
    assert "0.48" in text
    assert board.get("/runs/group--other/report").status_code == 409


def test_two_runs_are_compared(board: TestClient):
    text = board.get("/compare", params={"first": "demo", "second": "group--other"}).text
    assert "<code>seed</code>" in text
    assert re.search(r"\+0\.00<br>", text)  # round 0 is the same in both, on the same val clips
    assert "no clear difference" in text
    assert "66.7 %" in text  # 4 of the 6 clips that either bought
    assert text.count('class="plot"') == 2


def test_fleet_clips_are_shown_newest_first_with_their_key_frames(board: TestClient, runs: Store):
    run = runs.below("demo")
    for digest, token in (("a" * 32, "clip03"), ("b" * 32, "clip04")):
        clip = clips_of(run, {token})[token]
        run.write_table(layout.intake_clip(digest), [clip.to_row()], CLIP_SCHEMA)
        answer = {
            "score": 4.25, "is_key": [2 <= index < 4 for index in range(8)], "key_frames": {"start": 2, "length": 2},
            "shift_agents": [0.5] * 7, "shift_map": [0.25] * 7, "percentile": 93.0, "decision": "label",
            "model_version": "model-2",
        }  # fmt: skip
        record = {"at": "2026-01-01T00:00:00+00:00", "clip_token": token, "answer": answer}
        run.write_json(layout.intake_score(digest), record)
    run.write_json(layout.intake_score("c" * 32), {"at": "now", "clip_token": "x", "answer": {}})  # its clip is missing
    text = board.get("/runs/demo/fleet").text
    assert re.findall(r"<h2>([^<]+)</h2>", text) == ["scene-0004", "scene-0003"]
    assert text.count('class="bought"') == 4
    assert "percentile 93" in text
    image = board.get(f"/runs/demo/fleet/{'a' * 32}/3.jpg")
    assert image.headers["content-type"] == "image/jpeg"
    assert image.content.startswith(b"\xff\xd8")
    assert board.get(f"/runs/demo/fleet/{'a' * 32}/8.jpg").status_code == 404


class TestProgress:
    def state(self, run: Store):
        return run_state(run, RunConfig.model_validate(run.read_json("config.json")))

    def test_a_run_that_nobody_holds_is_stopped(self, runs: Store):
        state = self.state(runs.below("group/other"))
        assert (state.status, state.holder) == ("stopped", "")
        assert (state.current.round, state.current.name) == (1, "train")

    def test_a_held_run_shows_how_far_its_training_is(self, runs: Store, board: TestClient):
        run = runs.below("group/other")
        run.write_json(layout.train_progress(1), {"step": 30, "steps": 120, "loss": 2.5})
        with driver_lock(run):
            state = self.state(run)
            text = board.get("/runs/group--other/progress").text
        assert (state.status, state.current.done, state.current.total) == ("running", 30, 120)
        assert socket.gethostname() in state.holder
        assert 'max="120" value="30"' in text
        assert "loss 2.500" in text
        assert "data-follow" in text
        assert "data-follow" not in board.get("/runs/group--other/progress").text  # it was given back

    def test_scoring_counts_the_clips_of_its_ledger(self, runs: Store):
        run = runs.below("demo")
        rows = run.read_bytes(layout.scores_file(2))
        run.write_json("clips/manifest.json", {**run.manifest("clips"), "pool_clips": 10})
        run.write_json("rounds/00/selection/manifest.json", {**run.manifest("rounds/00/selection"), "n_clips": 2})
        for folder in (layout.scores(2), layout.selection(2), layout.model(2), layout.evaluation(2)):
            run.remove(folder)
        run.write_bytes(f"{layout.score_parts(2)}/a.parquet", rows)
        with driver_lock(run):
            current = self.state(run).current
        assert (current.name, current.done, current.total) == ("score", 6, 6)  # of 10, less the 4 that were bought

    def test_a_run_that_waits_for_annotators_says_so(self, runs: Store):
        run = runs.below("group/other")
        config = json.loads(run.read_bytes("config.json"))
        run.write_json("config.json", {**config, "labels": {**config["labels"], "mode": "wait"}})
        state = self.state(run)
        assert state.status == "waiting for labels"
        assert "label_request.json" in state.current.note
