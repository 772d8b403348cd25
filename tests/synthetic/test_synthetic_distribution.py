"""Five hundred scenes, driven without pictures: plausible motion, nuScenes' proportions, a known long tail."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sead_ray.config import WorldConfig
from sead_ray.synthetic.scenarios import SCENARIOS
from sead_ray.synthetic.survey import SceneSurvey, survey

SCENES = 500
WORLD = WorldConfig(scenes=SCENES, frames=40, seed=11)


@pytest.fixture(scope="module")
def scenes() -> list[SceneSurvey]:
    return survey(WORLD, processes=2)


def column(scenes: list[SceneSurvey], name: str) -> np.ndarray:
    return np.array([getattr(scene, name) for scene in scenes])


def test_motion_is_plausible(scenes: list[SceneSurvey]) -> None:
    assert column(scenes, "speed_mps").max() < 18
    assert column(scenes, "accelerate_mps2").max() < 2.6
    assert column(scenes, "brake_mps2").max() < 8
    assert np.median(column(scenes, "brake_mps2")) < 4
    assert column(scenes, "yaw_rate_radps").max() < 1.4
    assert np.median(column(scenes, "yaw_rate_radps")) < 0.8
    assert column(scenes, "jump_m").max() < 0.4


def test_no_boxes_overlap(scenes: list[SceneSurvey]) -> None:
    assert column(scenes, "overlaps").sum() == 0


def test_proportions_are_those_of_nuscenes(scenes: list[SceneSurvey]) -> None:
    plans = [scene.plan for scene in scenes]
    assert np.mean([plan.night for plan in plans]) == pytest.approx(0.12, abs=0.005)
    assert np.mean([plan.rain for plan in plans]) == pytest.approx(0.20, abs=0.005)
    sides = Counter(plan.log.location.startswith("boston") for plan in plans)
    assert min(sides.values()) > 0.1 * SCENES  # right- and left-hand traffic
    assert len({plan.log.location for plan in plans}) == 4
    splits = {split: {plan.log.number for plan in plans if plan.log.split == split} for split in ("train", "val")}
    assert not splits["train"] & splits["val"]


def test_rare_classes_are_rare_and_there(scenes: list[SceneSurvey]) -> None:
    staged = Counter(scene.truth.scenario for scene in scenes)
    measured = Counter(name for scene in scenes for name in scene.truth.rare)
    for scenario in SCENARIOS:
        if scenario.group == "rare":
            assert 0.01 <= staged[scenario.name] / SCENES <= 0.05, scenario.name
    assert len(measured) >= 6
    for name, count in measured.items():
        assert 0.01 <= count / SCENES <= 0.05, name


def test_most_scenes_are_simple(scenes: list[SceneSurvey]) -> None:
    truths = [scene.truth for scene in scenes]
    assert np.mean([not truth.rare for truth in truths]) > 0.7
    assert np.median([truth.interaction_density for truth in truths]) < 1.5
    assert np.mean([truth.crossing_agents == 0 for truth in truths]) > 0.8
    assert np.mean([truth.hard_braking_events == 0 for truth in truths]) > 0.9


def test_controls_look_lively_and_hold_no_interaction(scenes: list[SceneSurvey]) -> None:
    controls = {
        name: [s.truth for s in scenes if s.truth.scenario == name]
        for name in ("fast_empty", "turn_empty", "parked_rows", "flicker")
    }
    for truths in controls.values():
        assert truths
        for truth in truths:
            assert truth.interaction_density == 0
            assert truth.crossing_agents == truth.hard_braking_events == truth.emerging_agents == 0
    usual = np.mean([scene.truth.mean_speed_mps for scene in scenes])
    assert np.mean([truth.mean_speed_mps for truth in controls["fast_empty"]]) > usual
    assert np.mean([truth.ego_manoeuvre in ("left", "right") for truth in controls["turn_empty"]]) > 0.6
    assert np.mean([truth.occlusion for truth in controls["parked_rows"]]) > 0.15
    assert all(scene.plan.rain for scene in scenes if scene.truth.scenario == "flicker")


def test_staged_events_happen(scenes: list[SceneSurvey]) -> None:
    def share(scenario: str, holds) -> float:
        return float(np.mean([holds(scene.truth) for scene in scenes if scene.truth.scenario == scenario]))

    assert share("dart_out", lambda truth: truth.emerging_agents > 0) > 0.3
    assert share("crowd", lambda truth: truth.crossing_agents >= 2) > 0.3
    assert share("stopped_vehicle", lambda truth: truth.ego_manoeuvre in ("overtake", "lane_change")) > 0.3
    assert share("merge", lambda truth: truth.ego_manoeuvre in ("overtake", "lane_change")) > 0.3
    assert share("signal_red", lambda truth: truth.ego_manoeuvre in ("stop", "start", "left", "right")) > 0.6
    dense = [truth.interaction_density for truth in (s.truth for s in scenes) if truth.scenario == "busy_junction"]
    assert np.mean(dense) > 2 * np.mean(
        [scene.truth.interaction_density for scene in scenes if scene.truth.scenario == "cruise"]
    )
