"""Sends scenes of a nuScenes folder to a running scoring service, and appends its answers to a JSON Lines file.

A scene that the file holds already is not sent again, so that a stopped command goes on where it was. The bearer token,
where the service asks for one, is read from the environment variable SEAD_TOKEN, which no process list shows.
"""

from __future__ import annotations

from typing import Literal

from jobs.cli import run_job
from jobs.service import service_client, service_errors
from sead_ray.config import RunConfig
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.stages.inspect import chosen_scenes
from sead_ray.stages.send_log import send_scenes, sent_tokens


class ScoreLogConfig(RunConfig):
    url: str = "http://127.0.0.1:8000"
    """Address of the service."""
    scene: str = ""
    """Scene name or token; empty: every scene of pool and val in `data.root`."""
    via: Literal["score", "job", "session"] = "score"
    """score: a scene a request; job: sent as a job and polled; session: frame by frame."""
    output: str = "scores.jsonl"
    """File to which each scene's answer is appended as a line of JSON."""


def plan(config: ScoreLogConfig) -> str:
    scenes = chosen_scenes(NuScenesFolder(config.data), config.scene)
    left = len({token for token, _ in scenes} - sent_tokens(config.output))
    return f"Would send {left} of {len(scenes)} scene(s) of {config.data.root} to {config.url} by {config.via}."


def job(config: ScoreLogConfig) -> str:
    folder = NuScenesFolder(config.data)
    scenes = chosen_scenes(folder, config.scene)
    with service_errors(config.url), service_client(config.url) as client:
        sent = send_scenes(client, folder, scenes, config.via, config.output)
    return f"{sent.n_sent} scene(s) sent, {sent.n_failed} without a score, {sent.n_known} known before: {config.output}"


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=ScoreLogConfig, prog="python -m jobs.score_log")
