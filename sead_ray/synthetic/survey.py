"""Drives scenes without pictures and says what is in them: truth, ranges of motion, overlaps. For tests and figures."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass

import numpy as np

from sead_ray.config import WorldConfig
from sead_ray.synthetic.episode import NEAR_M, Episode, drive, overlapping
from sead_ray.synthetic.plan import ScenePlan, plan_world
from sead_ray.synthetic.rehearsal import compile_kernels
from sead_ray.synthetic.truth import Truth, measure

STEP_S = 0.1


@dataclass(frozen=True)
class SceneSurvey:
    """A scene's plan and truth, and extremes over the shown vehicles in its window.

    Attributes:
        jump_m: most that a position differs, after 0.1 s, from where its speed would have led it.
        overlaps: pairs of boxes that intersect in a key frame.
    """

    plan: ScenePlan
    truth: Truth
    speed_mps: float
    accelerate_mps2: float
    brake_mps2: float
    yaw_rate_radps: float
    jump_m: float
    overlaps: int


def survey(world: WorldConfig, processes: int = 1) -> list[SceneSurvey]:
    """All scenes of a world, in order."""
    jobs = [(plan, world.seed, world.frames) for plan in plan_world(world)]
    if processes <= 1:
        return [_survey_scene(*job) for job in jobs]
    with multiprocessing.get_context("spawn").Pool(processes, compile_kernels, (False,)) as pool:
        return pool.starmap(_survey_scene, jobs, chunksize=8)


def _survey_scene(plan: ScenePlan, seed: int, frames: int) -> SceneSurvey:
    episode = drive(plan.log.location, seed, plan.number, frames, plan.scenario)
    tracks = episode.tracks
    times = np.arange(episode.times_s[0], episode.times_s[-1], STEP_S)
    rows = []
    for column, number in enumerate(tracks.drivers):
        if tracks.actors[number].shown:
            states, motion = tracks.driver_states(column, times), tracks.motion(column, times)
            steps = np.hypot(*np.diff(states[:, :2], axis=0).T)
            jump = np.abs(steps - STEP_S * (states[1:, 3] + states[:-1, 3]) / 2).max()
            turn = np.abs(np.diff(np.unwrap(states[:, 2]))).max() / STEP_S
            rows.append((states[:, 3].max(), motion[:, 2].max(), -motion[:, 2].min(), turn, jump))
    most = np.array(rows).max(axis=0)
    return SceneSurvey(plan, measure(episode), *map(float, most), _overlaps(episode))


def _overlaps(episode: Episode) -> int:
    sizes = np.array([actor.size_wlh_m for actor in episode.tracks.actors])
    shown = np.array([actor.shown for actor in episode.tracks.actors])
    count = 0
    for time in episode.times_s:
        poses = episode.tracks.poses(float(time))
        near = shown & (np.hypot(*(poses[:, :2] - poses[0, :2]).T) < NEAR_M)
        count += len(overlapping(poses[near], sizes[near], margin_m=0.0))
    return count
