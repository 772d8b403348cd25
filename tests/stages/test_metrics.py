"""What a run tells Prometheus: at Ray's own endpoint, with the numbers that the run folder holds."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from sead_ray.config import RunConfig
from sead_ray.stages import layout, metrics
from sead_ray.stages.rounds import run_rounds
from sead_ray.stages.select import read_selection
from sead_ray.storage import Store

REPORTED_WITHIN_S = 40.0  # Ray's processes report every 10 s

Samples = dict[tuple[str, str, str], float]  # (name, round, unit or stage) -> value


class Recorded:
    def __init__(self) -> None:
        self.calls: list[tuple[str, float, dict[str, str]]] = []

    def metric(self, name: str) -> Any:
        class Metric:
            set = inc = lambda _, value, tags: self.calls.append((name, value, tags))

        return Metric()


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(metrics, "_gauges", {})
    monkeypatch.setattr(metrics, "_start_repeating", lambda: None)
    monkeypatch.setattr(metrics, "_metric", recorded.metric)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    return recorded


def test_without_ray_nothing_is_recorded_and_gauges_keep(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics.count("sead_clips_scored_total", 3, run="r", round=1)
    metrics.show("sead_round", 0, run="r")
    metrics.show("sead_round", 1, run="r")
    metrics.repeat()
    assert not recorded.calls
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    metrics.show("sead_l2_m", 0.7, run="r", round=1)
    metrics.count("sead_clips_scored_total", 2, run="r", round=1)
    l2, scored = ("sead_l2_m", 0.7, {"run": "r", "round": "1"}), ("sead_clips_scored_total", 2)
    assert [recorded.calls[0], recorded.calls[1][:2]] == [l2, scored]
    metrics.repeat()
    assert recorded.calls[2:] == [("sead_round", 1, {"run": "r"}), l2]


def test_a_stage_that_fails_shows_no_seconds(recorded: Recorded) -> None:
    with pytest.raises(RuntimeError), metrics.stage("r", "train", 0):
        raise RuntimeError
    assert not metrics._gauges
    with metrics.stage("r", "prepare"):
        pass
    ((name, tags),) = metrics._gauges
    assert (name, dict(tags)) == ("sead_stage_seconds", {"run": "r", "stage": "prepare", "round": ""})


def test_a_run_at_rays_prometheus_endpoint(loop_run: Store, loop_config: RunConfig) -> None:
    scores, bought = loop_run.manifest(layout.scores(1)), [*read_selection(loop_run, 0), *read_selection(loop_run, 1)]
    evaluation = loop_run.read_json(f"{layout.evaluation(1)}/evaluation.json")
    expected = {
        ("sead_round", "", ""): 1,
        ("sead_clips_scored_total", "1", ""): scores["n_clips"],
        ("sead_frames_scored_total", "1", ""): scores["n_frames"],
        ("sead_clips_quarantined", "", ""): 0,
        ("sead_budget_used", "", "clips"): len(bought),
        ("sead_budget_used", "", "frames"): sum(item.n_frames_bought for item in bought),
        ("sead_budget_total", "", "clips"): 5,  # half of 9 clips, halves up
        ("sead_train_steps", "1", ""): loop_run.manifest(layout.model(1))["steps"],
        ("sead_l2_m", "1", ""): evaluation["planner"]["l2_m"]["avg"],
    }
    run_rounds(loop_config)  # other tests may have gone back to its first round
    found = wait_for(loop_run.root, expected)
    assert {key: found.get(key) for key in expected} == pytest.approx(expected)
    assert found["sead_train_loss", "1", ""] > 0
    stages = {(round_, stage) for name, round_, stage in found if name == "sead_stage_seconds"}
    assert {("", "prepare"), ("0", "select"), ("1", "score"), ("1", "train"), ("1", "evaluate")} <= stages


def wait_for(run: str, wanted: Samples) -> Samples:
    """What the endpoint shows once it shows `wanted`, or in the end."""
    deadline = time.monotonic() + REPORTED_WITHIN_S
    while True:
        found = samples(run)
        if all(found.get(key) == pytest.approx(value) for key, value in wanted.items()) or time.monotonic() > deadline:
            return found
        time.sleep(1.0)


def samples(run: str) -> Samples:
    (node,) = [node for node in ray.nodes() if node["Alive"]]
    text = httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=10).text
    return {
        (sample.name.removeprefix("ray_"), sample.labels.get("round", ""), label(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("run") == run
    }


def label(labels: dict[str, str]) -> str:
    return labels.get("unit") or labels.get("stage") or ""
