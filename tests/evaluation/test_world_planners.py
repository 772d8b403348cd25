"""The planner with open eyes sees the present only, and that is worth much more than the ego's own status."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from sead_ray.config import WorldConfig
from sead_ray.evaluation.world_foresight import after_the_signal, alone, drive_on
from sead_ray.evaluation.world_planners import BLIND, KNOWING, compare, gap
from sead_ray.evaluation.world_present import frozen_signals, observe
from sead_ray.evaluation.world_samples import Samples, drive_world, samples_of
from sead_ray.synthetic.actors import Manner
from sead_ray.synthetic.episode import Episode, drive
from sead_ray.synthetic.simulation import DT_S
from sead_ray.synthetic.yielding import SLOT_S, signal_state

LOCATION = "singapore-onenorth"


def metres_driven(plan: np.ndarray, episode: Episode, time_s: float) -> float:
    return float(np.hypot(*(plan[-1] - episode.tracks.driver_states(0, np.array([time_s]))[0, :2])))


@pytest.mark.parametrize("scenario", ["busy_junction", "crowd", "signal_red", "stopped_vehicle"])
def test_neither_the_future_nor_hidden_manners_are_known(scenario: str) -> None:
    episode = drive(LOCATION, 4, 1, 20, scenario)
    time = float(episode.times_s[6])
    other = copy.deepcopy(episode)
    later = int(time / DT_S) + 2
    rng = np.random.default_rng(0)
    for tracks in (other.tracks.driven, other.tracks.walked):
        tracks[later:] += rng.normal(0, 5, tracks[later:].shape)
    for actor in other.tracks.actors:
        actor.manner = Manner(eager=0.3, headway_s=4.0, skill=0, cue_mode=1, cue_m=0.0)
        actor.speed_mps = actor.start_m = -1.0
        if actor.walk is not None:
            actor.walk.delay_s, actor.walk.bold, actor.walk.crosswalk = 99.0, not actor.walk.bold, -1
        elif actor.route is not None and actor is not other.tracks.actors[0]:
            actor.route = other.tracks.actors[0].route
    assert np.array_equal(drive_on(observe(episode, time)), drive_on(observe(other, time)))
    whole, changed = samples_of(episode, 0), samples_of(other, 0)
    assert np.array_equal(whole.rollout[6], changed.rollout[6])
    command = slice(11, 14)  # VAD's, from the recorded future; both planners have it
    known = np.delete(np.arange(whole.everything.shape[1]), command)
    assert np.array_equal(whole.everything[6, known], changed.everything[6, known])


def test_signals_stay_as_they_show() -> None:
    episode = drive(LOCATION, 4, 2, 20, "signal_red")
    for time in np.arange(4.0, 12.0, 0.7):
        frozen = frozen_signals(episode, float(time))
        for number, junction in enumerate(episode.town.junctions):
            for arm, group in enumerate(junction.groups):
                shown = episode.tracks.signals.state(number, arm, float(time))
                again = ("green", "yellow", "red")[signal_state(group, frozen[number], 0.0)]
                assert again == shown
                if shown == "green":
                    assert signal_state(group, frozen[number], 3.0) == signal_state(group, frozen[number], 0.0)


def test_a_red_signal_and_other_people_hold_the_rollout_back() -> None:
    held = 0
    for scene in range(4):
        episode = drive(LOCATION, 4, scene, 20, "signal_red")
        for time in episode.times_s[:-6:2]:
            present = observe(episode, float(time))
            plans = [drive_on(case) for case in (present, alone(present), after_the_signal(present))]
            now, free, changed = (metres_driven(plan, episode, float(time)) for plan in plans)
            assert free >= now - 1.0
            held += changed > now + 3.0
    assert held >= 4
    assert (frozen_signals(episode, 3.0) <= 2 * SLOT_S).all()


def test_open_eyes_plan_much_better_than_the_ego_status() -> None:
    scenes = list(drive_world(WorldConfig(scenes=90, frames=24, seed=31)))
    assert [scene.clip for scene in scenes] == list(range(90))
    train, val = (Samples.joined([s.samples for s in scenes if s.split == split]) for split in ("train", "val"))
    results = compare(train, val, {scene.clip for scene in scenes if scene.manoeuvre})
    average = {result.name: result.average_manoeuvres_m for result in results}
    assert average[KNOWING] < average["true agents and map, not trained"]
    assert average[KNOWING] < average[BLIND] < 0.5 * average["constant velocity"]
    assert gap(results) > 0.3  # 40 % with five times as many scenes: docs/world.md
