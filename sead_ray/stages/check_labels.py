"""Labels of the bought frames against what a model of the run sees there, distributed by clip."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.labels.disagreement import Evidence, Suspect, frame_evidence, rank_suspects
from sead_ray.stages import layout, metrics
from sead_ray.stages.attempts import Failure
from sead_ray.stages.clip_pipeline import run_pipeline
from sead_ray.stages.cluster import connect
from sead_ray.stages.evaluate import ClipOutput, predict_clips
from sead_ray.stages.label_store import labelled_frames, read_labels
from sead_ray.stages.pipeline_size import pipeline_size
from sead_ray.stages.progress import Progress, say
from sead_ray.storage import Store


def requested_frames_so_far(run: Store) -> dict[str, list[str]]:
    """Frame tokens of every published label request, by clip."""
    frames: dict[str, list[str]] = {}
    number = 0
    while run.is_published(layout.selection(number)):
        for clip, tokens in run.read_json(layout.label_request(number))["clips"].items():
            frames.setdefault(clip, []).extend(tokens)
        number += 1
    return frames


def check_labels(run: Store, config: RunConfig, number: int, min_score: float = 0.1) -> list[Suspect]:
    """Likely errors in the labels of all bought frames that have some, by the model of round `number`, worst first.

    Raises:
        InputError: there is no labelled frame; a clip cannot be read.
    """
    asked = requested_frames_so_far(run)
    wanted = {token for tokens in asked.values() for token in tokens}
    labelled = labelled_frames(run, config, wanted)
    frames = {clip: [token for token in tokens if token in labelled] for clip, tokens in asked.items()}
    frames = {clip: tokens for clip, tokens in frames.items() if tokens}
    if not frames:
        raise InputError(f"{run.root} has no labelled frame of a label request yet: there is nothing to check.")
    say(f"check labels: {sum(map(len, frames.values()))} frames of {len(frames)} clips by the model of round {number}")
    connect()
    evidence: list[Evidence] = []
    with (
        metrics.stage(run.root, "check labels", number),
        Progress("check labels", len(frames), "clip") as progress,
        run_pipeline(
            run,
            config.data.root,
            config.image,
            layout.model(number),
            sorted(frames),
            work=partial(predict_clips, decode=True),
            finish=partial(_compare_all, run=run, config=config, frames=frames),
            size=pipeline_size(config.score, config.score.clips_per_batch, None, config.score.max_actors),
            max_attempts=config.score.max_attempts,
        ) as rows,
    ):
        for row in rows:
            evidence += pickle.loads(row["evidence"])
            progress.advance()
    return rank_suspects(evidence, min_score)


def suspect_row(suspect: Suspect) -> dict[str, Any]:
    """For JSON, with the sentence that describes it."""
    return {**asdict(suspect), "describe": suspect.describe()}


def _compare_all(
    results: Sequence[tuple[str, Any]], run: Store, config: RunConfig, frames: Mapping[str, list[str]]
) -> list[dict[str, Any]]:
    return [{"evidence": pickle.dumps(_compare(token, item, run, config, frames[token]))} for token, item in results]


def _compare(token: str, result: Any, run: Store, config: RunConfig, frames: list[str]) -> list[Evidence]:
    if isinstance(result, Failure):
        raise InputError(f"The labels of clip {token} cannot be checked: {result.reason}")
    output: ClipOutput = result
    if not output.predictions:
        raise InputError("The model has no detections to compare labels with.")
    labels = read_labels(run, config, set(frames), {token})
    return [
        evidence
        for index, frame in enumerate(output.clip.frames)
        if frame.token in labels
        for evidence in frame_evidence(output.clip, index, labels[frame.token], output.predictions[index])
    ]
